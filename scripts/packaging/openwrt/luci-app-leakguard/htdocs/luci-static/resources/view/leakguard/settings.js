'use strict';
'require view';
'require form';
'require rpc';
'require uci';
'require ui';

/*
 * /etc/config/leakguard. An option is a key of leakguard.conf(5) with _ for -,
 * and what a value means, or whether it is right, the program alone says: it is
 * asked before anything is saved.
 */

const callLinks = rpc.declare({ object: 'leakguard', method: 'links', expect: { links: [] } });
const callCheck = rpc.declare({ object: 'leakguard', method: 'check', params: [ 'config' ], expect: { '': {} }, reject: true });

/* Those that would be read as something else in UCI or in a file's line. */
const ODD_NAME = /[^A-Za-z0-9_.-]/;

/* Of the service alone; the program has no such keys. */
const NO_KEYS = [ 'enabled', 'attempts' ];

/* A line that the program reads as one: the rest of it is judged by `check`. */
function isOneLine(section_id, value) {
	if (/[\x00-\x1f\x7f]/.test(value))
		return _('Expected one line without control characters.');
	if (/(^|\s)[#;]/.test(value))
		return _('"#" and ";" start a comment; leave them out.');
	return true;
}

/* The last words of "leakguard: FILE:LINE: what is wrong". */
function reason(answer) {
	return String(answer.error || _('leakguard gave no reason.')).replace(/^leakguard: (\S+:\d+: )?/, '');
}

return view.extend({
	load: function() {
		return Promise.all([
			L.resolveDefault(callLinks(), []),
			uci.load('leakguard'),
			L.resolveDefault(uci.load('network')),
			L.resolveDefault(callCheck(), {})
		]);
	},

	/* What is offered; other names can be typed. */
	offerLinks: function(o) {
		for (const name of this.links)
			o.value(name, name);
	},

	offerNetworks: function(o) {
		for (const network of uci.sections('network', 'interface'))
			if (network['.name'] !== 'loopback')
				o.value(network['.name'], network['.name']);
	},

	/* One of section main: kept, to be asked for its value. */
	option: function(tab, ...args) {
		const o = this.main.taboption(tab, ...args);

		this.options.push(o);
		return o;
	},

	addGeneral: function() {
		let o = this.option('general', form.Flag, 'enabled', _('Guard this router'),
			_('Every name query to port 53 or 853 that does not leave through a tunnel, or go to an approved resolver, is blocked; from power-on, before the network is up.'));
		o.rmempty = false;

		o = this.option('general', form.DynamicList, 'tunnel', _('Tunnels'),
			_('Links of the VPN: <code>wg0</code>, or <code>tun*</code> for all that start so. They need not be there yet. A VPN that is a network of OpenWrt\'s is better named below.'));
		o.placeholder = 'wg0';
		o.validate = isOneLine;
		this.offerLinks(o);

		o = this.option('general', form.DynamicList, 'resolver', _('Approved resolvers'),
			_('An address, with <code>@PORT</code> for one port alone. <code>via tunnel</code>: only through a tunnel; <code>via eth1</code>: only by that link; <code>via any</code>: always. With none of them: by any link, until a route has led it through a tunnel, and from then on through tunnels only.'));
		o.placeholder = '10.64.0.1 via tunnel';
		o.validate = isOneLine;

		o = this.option('general', form.DynamicList, 'endpoint', _('The VPN\'s server'),
			_('Only where it listens on port 53 or 853: <code>203.0.113.7:53/udp</code>.'));
		o.placeholder = '203.0.113.7:53/udp';
		o.validate = isOneLine;

		o = this.option('general', form.ListValue, 'mode', _('Let out by'));
		o.optional = true;
		o.placeholder = _('default: either');
		o.value('either', _('either: a tunnel, or an approved resolver'));
		o.value('both', _('both: a tunnel and an approved resolver'));

		o = this.option('general', form.ListValue, 'action', _('What is blocked'));
		o.optional = true;
		o.placeholder = _('default: drop');
		o.value('drop', _('drop: clients wait until they give up'));
		o.value('reject', _('reject: clients are told at once'));

		this.option('general', form.Flag, 'attempts', _('Keep a list of last attempts'),
			_('Who asked for which name, whom, and was blocked: for the status page. The last 100, in memory only; gone when this is switched off, and with a reboot.'));
	},

	addClients: function() {
		let o = this.option('clients', form.DynamicList, 'lan_redirect', _('Redirect queries to'),
			_('Queries of clients to any other resolver on port 53 go here instead, and answers come back as from the address they asked; DNS over TLS is refused, so that they fall back. <code>local</code>: this router\'s own resolver. Or one address for IPv4 and one for IPv6, with <code>@PORT</code> if need be. Which networks: see below.'));
		o.placeholder = 'local';
		o.value('local', _('local: this router\'s own resolver'));
		o.validate = isOneLine;

		o = this.option('clients', form.DynamicList, 'lan_exempt', _('Exempt clients'),
			_('Not redirected, but guarded as all others: an address, or a MAC address.'));
		o.placeholder = '192.168.1.20';
		o.validate = isOneLine;

		o = this.option('clients', form.DynamicList, 'lan', _('More links of clients'),
			_('For what is no network of OpenWrt\'s: a link\'s name, or <code>veth*</code>.'));
		o.validate = isOneLine;
		this.offerLinks(o);
	},

	addAdvanced: function() {
		const list = (name, title, description, placeholder) => {
			const o = this.option('advanced', form.DynamicList, name, title, description);

			o.placeholder = placeholder;
			o.validate = isOneLine;
			return o;
		};
		const choice = (name, title, description, values) => {
			const o = this.option('advanced', form.ListValue, name, title, description);

			o.optional = true;
			o.placeholder = _('default: %s').format(values[0]);
			for (const value of values)
				o.value(value, value);
		};
		const text = (name, title, description, placeholder) => {
			const o = this.option('advanced', form.Value, name, title, description);

			o.optional = true;
			o.placeholder = placeholder;
			o.validate = isOneLine;
		};

		text('ports', _('Guarded ports'), _('Replaces the default.'), '53,853');
		choice('flow_offload', _('Software flow offload'),
			_('<code>prevent</code>: flows of guarded ports are kept out of it.'), [ 'ignore', 'prevent' ]);
		choice('frames', _('Frames'),
			_('What goes round the IP stack: packet sockets, bridged guests, macvlan. <code>strict</code> breaks some honest users of wrapped packets.'),
			[ 'auto', 'off', 'require', 'strict' ]);
		choice('fragments', _('Fragments'),
			_('How they are kept from slipping by. <code>auto</code>: the cheapest way that the kernel has.'),
			[ 'auto', 'defrag', 'conntrack', 'drop' ]);
		this.offerLinks(list('inside', _('Inside'),
			_('Links to guests and containers of this router, whatever they are asked: not guarded.'), 'docker0'));
		list('tunnel_kind', _('Kinds of tunnels'),
			_('A tunnel must be of one of these kinds as well as of its name: <code>any</code>, <code>strict</code>, <code>wireguard</code>, ...'), 'any');
		text('pause_max', _('Longest pause'), null, '1h');
		choice('ownership', _('Ownership'),
			_('<code>off</code>: the rules are an ordinary table, for programs that expect to change all tables.'), [ 'auto', 'off' ]);
		text('watch_quiet', _('Look after quiet of, ms'), null, '50');
		text('watch_late', _('Look at the latest after, ms'), null, '500');
		text('log_group', _('Log to nflog group'), _('What is blocked, for a program that listens there.'), '');
		text('log_rate', _('Log at most, a second'), null, '');
	},

	addNetworks: function(m) {
		const s = m.section(form.TableSection, 'network', _('Networks'),
			_('Networks of OpenWrt\'s: whose clients are redirected, and which of them are VPNs. A VPN\'s own resolvers are approved as long as it is up, through it alone. Clients of networks that are not named here are guarded, too.'));
		s.anonymous = true;
		s.addremove = true;

		let o = s.option(form.Value, 'name', _('Network'));
		o.rmempty = false;
		o.placeholder = 'lan';
		o.validate = (section_id, value) => !/\W/.test(value) || _('Expected letters, digits and "_".');
		this.offerNetworks(o);

		s.option(form.Flag, 'redirect', _('Redirect its clients'));
		s.option(form.Flag, 'tunnel', _('It is a VPN'));
		this.networks = s;
	},

	/* The file that these settings become, for the program to judge. A network's
	   link is known to the router alone; its name does as well here. */
	asFile: function() {
		const lines = [];
		const add = (key, values) => {
			for (const value of L.isObject(values) ? values : [ values ])
				if (value !== null && value !== undefined && value !== '')
					lines.push('%s = %s'.format(key, value));
		};
		let redirects = false;

		for (const o of this.options)
			if (!NO_KEYS.includes(o.option)) {
				const value = o.formvalue('main');

				redirects = redirects || (o.option === 'lan_redirect' && L.toArray(value).length > 0);
				add(o.option.replace(/_/g, '-'), value);
			}
		for (const id of this.networks.cfgsections()) {
			const name = this.networks.formvalue(id, 'name');
			const link = uci.get('network', name, 'device') || name;

			if (redirects && this.networks.formvalue(id, 'redirect') === '1')
				add('lan', link);
			if (this.networks.formvalue(id, 'tunnel') === '1')
				add('tunnel', link);
		}
		return lines.join('\n') + '\n';
	},

	/* Resolves once these settings may be saved. */
	check: function() {
		return callCheck(this.asFile()).then((answer) => answer.ok ? null : new Promise((save, keep) => {
			const button = (id, label, kind, then) => E('button', { 'id': id, 'class': 'btn cbi-button ' + kind,
				'click': () => { ui.hideModal(); then(); } }, [ label ]);

			ui.showModal(_('leakguard would not take this'), [
				E('p', { 'id': 'leakguard-refused' }, [ reason(answer) ]),
				E('p', {}, [ _('If it is saved, the rules that are in force stay, and nothing of it counts.') ]),
				E('div', { 'class': 'right' }, [
					button('leakguard-anyway', _('Save all the same'), 'cbi-button-negative', save), ' ',
					button('leakguard-back', _('Back'), 'cbi-button-neutral', () => keep(new Error(reason(answer))))
				])
			]);
		}));
	},

	handleSave: function() {
		return this.check().then(() => this.map.save());
	},

	render: function(data) {
		this.options = [];
		this.links = data[0].filter((name) => name !== 'lo' && !ODD_NAME.test(name));
		if (!uci.get('leakguard', 'main'))
			uci.add('leakguard', 'leakguard', 'main');

		const m = this.map = new form.Map('leakguard', _('DNS leak guard'),
			_('A kill switch against DNS leaks: name queries of this router and its clients leave through the VPN, or not at all.'));
		const s = this.main = m.section(form.NamedSection, 'main', 'leakguard');

		s.tab('general', _('General'));
		s.tab('clients', _('LAN clients'));
		s.tab('advanced', _('Advanced'), _('Each has a default that fits most; leakguard.conf(5) has the details.'));
		this.addGeneral();
		this.addClients();
		this.addAdvanced();
		this.addNetworks(m);

		const refused = data[3].ok === false ? [ E('div', { 'class': 'alert-message warning' },
			[ _('The saved configuration is not taken: %s').format(reason(data[3])) ]) ] : [];

		return m.render().then((node) => E('div', {}, [ ...refused, node ]));
	}
});
