'use strict';
'require view';
'require dom';
'require poll';
'require rpc';
'require ui';

/*
 * What is in force, as `leakguard status --json` tells it (leakguard(8)).
 *
 * Names of links and programs, messages and queries were chosen by others. They
 * are text: always given to E() inside an array, since a string that stands
 * alone is taken as markup there.
 */

const JSON_VERSION = 1;
const LOG_LINES = 20;

const callStatus = rpc.declare({ object: 'leakguard', method: 'status', expect: { '': {} }, reject: true });
const callLog = rpc.declare({ object: 'leakguard', method: 'log', params: [ 'lines' ], expect: { lines: [] } });
const callAttempts = rpc.declare({ object: 'leakguard', method: 'attempts', expect: { '': {} } });
const callCheck = rpc.declare({ object: 'leakguard', method: 'check', expect: { '': {} } });
const callPause = rpc.declare({ object: 'leakguard', method: 'pause', params: [ 'duration' ], expect: { '': {} }, reject: true });
const callResume = rpc.declare({ object: 'leakguard', method: 'resume', expect: { '': {} }, reject: true });

/* state -> class of the message, and what it means. */
const STATES = {
	OFF: [ 'danger', _('Not guarded: name queries go anywhere. Switch it on in the settings.') ],
	LOCKED: [ 'info', _('Guarded, and no tunnel is up: names are asked of approved resolvers only, and of none behind the tunnel.') ],
	GUARDED: [ 'success', _('Guarded, and a tunnel is up.') ],
	STALE: [ 'warning', _('Guarded by the rules before the last change: the kernel refused that. It is tried again.') ],
	ALTERED: [ 'danger', _('Somebody changed the rules, and nobody has undone it. Do not rely on them; reload the service.') ]
};

/* S numbers of leakguard(8), and whether what they count was blocked. */
const COUNTERS = {
	S2: [ false, _('stayed on this router') ],
	S3: [ false, _('the VPN\'s own packets') ],
	S4: [ false, _('left through a tunnel') ],
	S5: [ false, _('went to an approved resolver') ],
	S6: [ false, _('let out by a pause') ],
	S7: [ true, _('queries blocked') ],
	S9: [ true, _('fragments blocked') ],
	S11: [ true, _('frames blocked at a link') ]
};

const FRAMES = {
	covered: _('judged'),
	tunnel: _('let go: a tunnel'),
	loopback: _('stay on this router'),
	inside: _('let go: inside'),
	carrier: _('not judged: it carries a tunnel'),
	uncovered: _('NOT judged')
};

const POLICY = {
	ports: _('Guarded ports'),
	mode: _('Mode'),
	action: _('Action'),
	fragments: _('Fragments'),
	frames: _('Frames'),
	endpoints: _('The VPN\'s carrier'),
	inside: _('Inside'),
	tunnel_kinds: _('Kinds of tunnels'),
	lan_links: _('Clients are redirected on'),
	lan_redirect: _('Their queries go to'),
	lan_exempt: _('Exempt clients')
};

const PATHS = {
	sticky: _('any, until a route leads it through a tunnel'),
	tunnel: _('tunnels only'),
	any: _('any'),
	link: _('one link only')
};

/* What there is to do where the list of attempts has nothing in it, or nothing more. */
const ATTEMPTS = {
	off: _('No list is kept, for it tells which names people ask for. To begin one: "Keep a list of last attempts" in the settings.'),
	unable: _('This program cannot tell: install the package leakguard in place of leakguard-mini.'),
	ended: _('Nobody keeps the list now. Why is below, in the last messages; reload the service once it is mended.'),
	down: _('The guard is down: nothing is blocked.'),
	kept: _('Nothing was blocked since the list was begun.')
};

const PAUSES = [
	[ '1m', _('1 minute') ], [ '5m', _('5 minutes') ], [ '15m', _('15 minutes') ], [ '1h', _('1 hour') ]
];

/* What we have a word for, or the thing itself. */
function word(words, key) {
	return words.hasOwnProperty(key) ? words[key] : String(key);
}

/* A table whose cells are text or nodes, with or without titles; `none` where there is no row. */
function table(titles, rows, none) {
	const row = (cells, tag) => E('tr', { 'class': 'tr' }, [ ...cells.map((cell) =>
		E(tag, { 'class': tag + ' left' }, [ cell === null || cell === undefined ? '' : cell ])) ]);

	if (!rows.length)
		return E('p', {}, [ E('em', {}, [ none ]) ]);
	return E('table', { 'class': 'table' }, [
		...titles ? [ row(titles, 'th') ] : [], ...rows.map((cells) => row(cells, 'td')) ]);
}

function section(title, children) {
	return E('div', { 'class': 'cbi-section' }, [ E('h3', {}, [ title ]), ...children ]);
}

function message(kind, text) {
	return E('div', { 'class': 'alert-message ' + kind }, [ text ]);
}

/* "7 s ago", of milliseconds. */
function ago(ms) {
	return _('%t ago').format(Math.round(ms / 1000));
}

function number(value) {
	return Number(value || 0);
}

function stateNode(st) {
	const known = STATES.hasOwnProperty(st.state) ? STATES[st.state] : [ 'warning', '' ];
	const counters = st.counters || {};
	const blocked = Object.keys(counters).reduce((sum, name) =>
		sum + (COUNTERS.hasOwnProperty(name) && COUNTERS[name][0] ? number(counters[name].packets) : 0), 0);
	const left = number(st.pause_left_ms);
	const children = [
		E('h3', { 'id': 'leakguard-state', 'style': 'margin:0' }, [ String(st.state) ]),
		E('div', {}, [ known[1] ])
	];

	if (left > 0)
		children.push(E('div', { 'id': 'leakguard-paused' }, [
			E('strong', {}, [ _('Paused for another %t: every name query goes anywhere.').format(Math.ceil(left / 1000)) ]) ]));
	if (st.state !== 'OFF')
		children.push(E('div', { 'id': 'leakguard-blocked' }, [ _('Blocked since the guard went up: %d packets.').format(blocked) ]));
	return E('div', { 'class': 'alert-message ' + (left > 0 ? 'warning' : known[0]) }, [ ...children ]);
}

function warningsNode(st, refused) {
	/* A pause is told above. */
	const list = (st.warnings || []).filter((w) => w.code !== 'paused').map((w) => String(w.text || w.code));

	if (st.version !== JSON_VERSION)
		list.unshift(_('leakguard speaks version %s of its status, this page version %d: what follows may be wrong.').format(st.version, JSON_VERSION));
	if (refused)
		list.unshift(_('The saved configuration is not taken: %s').format(refused));
	return E('div', { 'id': 'leakguard-warnings' }, [ ...list.map((text) => message('warning', text)) ]);
}

function countersNode(st) {
	const counters = st.counters || {};
	const names = Object.keys(counters).sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)));

	return table([ '', _('What'), _('Packets'), _('Bytes') ], names.map((name) => {
		const about = COUNTERS.hasOwnProperty(name) ? COUNTERS[name] : [ false, '' ];

		return [ about[0] ? E('strong', {}, [ name ]) : name, about[1],
			String(number(counters[name].packets)), '%1024mB'.format(number(counters[name].bytes)) ];
	}), _('Nothing is counted while the guard is down.'));
}

function blockedNode(st) {
	return table([ _('Link'), _('Port'), _('Packets'), _('Bytes') ], (st.blocked || []).map((b) => [
		b.link, String(number(b.port)), String(number(b.packets)), '%1024mB'.format(number(b.bytes)) ]),
		_('Nothing was blocked yet.'));
}

function withPort(address, port) {
	return (String(address).indexOf(':') < 0 ? '%s@%d' : '[%s]@%d').format(address, port);
}

/* A client by its name and address, a program of this router's by its user. */
function asker(a) {
	const user = a.user || (a.uid === null || a.uid === undefined ? null : _('user %d').format(a.uid));

	if (a.client)
		return a.client.name ? '%s (%s)'.format(a.client.name, a.client.address) :
			String(a.client.address || a.client.mac || _('unknown'));
	return _('this router: %s').format(a.program || _('unknown')) + (user ? ' (%s)'.format(user) : '');
}

/* Text that is read in one line, or in lines that are not too short: where there
   is no room, the table can be moved to and fro. */
function short(text) {
	return E('span', { 'style': 'white-space:nowrap' }, [ text ? String(text) : '' ]);
}

function long(text) {
	return E('div', { 'style': 'min-width:10em;overflow-wrap:anywhere' }, [ text ]);
}

function askedFor(a) {
	if (a.name)
		return String(a.name);
	return E('em', {}, [ a.encrypted ? _('encrypted') : a.fragment ? _('fragment') : _('unknown') ]);
}

/* The same attempt again is one row, by the last of them; the newest first. */
function attemptRows(list) {
	const rows = new Map();

	for (const a of list.slice().reverse()) {
		const whom = a.resolver ? (a.port ? withPort(a.resolver, a.port) : a.resolver) : '';
		const key = JSON.stringify([ asker(a), a.name, a.encrypted, a.fragment, a.type, whom, a.protocol, a.link ]);

		if (!rows.has(key))
			rows.set(key, { last: a, whom: a.protocol ? '%s/%s'.format(whom, a.protocol) : whom, count: 0 });
		rows.get(key).count++;
	}
	return [ ...rows.values() ].map((row) => {
		const a = row.last, time = new Date(a.time);

		return [ short(isNaN(time) ? a.time : time.toLocaleString()), long(asker(a)),
			long(askedFor(a)), short(a.type), short(row.whom), short(a.link), String(row.count) ];
	});
}

function attemptsNode(st, kept) {
	const rows = attemptRows(Array.isArray(kept.attempts) ? kept.attempts : []);
	const state = st.state === 'OFF' && kept.state !== 'off' ? 'down' : kept.state;
	const note = state === 'kept' && rows.length ? null :
		ATTEMPTS.hasOwnProperty(state) ? ATTEMPTS[state] : _('leakguard did not tell.');
	const nodes = note ? [ E('p', {}, [ E('em', {}, [ note ]) ]) ] : [];

	if (rows.length)
		nodes.push(table([ _('Last time'), _('Who'), _('Name'), _('Type'), _('Asked'), _('Link'), _('Times') ], rows));
	if (number(kept.not_shown) > 0)
		nodes.push(E('p', { 'id': 'leakguard-not-shown' }, [
			_('%d more were blocked and are not in the list: not more of them are logged a second, or they are fragments.').format(number(kept.not_shown)) ]));
	return E('div', {}, [ ...nodes ]);
}

function tunnelsNode(st) {
	const rows = [];

	for (const tunnel of st.tunnels || []) {
		const links = tunnel.links || [];

		for (const link of links)
			rows.push([ tunnel.name, link.name, link.kind, link.up ? _('up') : _('down') ]);
		if (!links.length)
			rows.push([ tunnel.name, '', '', _('absent') ]);
	}
	return table([ _('Entry'), _('Link'), _('Kind'), _('State') ], rows,
		_('No tunnel is configured: names go to approved resolvers only.'));
}

function resolversNode(st) {
	return table([ _('Resolver'), _('Approved path'), _('Pinned to tunnels'), _('Its route now') ],
		(st.resolvers || []).map((r) => [
			r.port ? withPort(r.address, r.port) : r.address,
			r.path === 'link' ? _('%s only').format(r.link) : word(PATHS, r.path),
			r.pinned ? _('yes') : '',
			r.route ? (r.through_tunnel ? _('%s, a tunnel') : _('%s, no tunnel')).format(r.route) : _('none')
		]), _('No resolver is approved: names go through tunnels only.'));
}

function linksNode(st) {
	return table([ _('Link'), _('Kind'), _('Frames that leave by it') ],
		(st.links || []).map((l) => [ l.name, l.kind,
			l.frames === 'uncovered' ? E('strong', {}, [ word(FRAMES, l.frames) + (l.why ? ': ' + l.why : '') ]) :
				word(FRAMES, l.frames) ]), _('None.'));
}

/* All that is set, also by keys that are newer than this page. */
function addPolicy(rows, object, prefix) {
	for (const key of Object.keys(object)) {
		const value = object[key], name = prefix + key;

		if (Array.isArray(value) ? !value.length : value === null)
			continue;
		if (L.isObject(value) && !Array.isArray(value))
			addPolicy(rows, value, name + '_');
		else
			rows.push([ word(POLICY, name), Array.isArray(value) ? value.join(', ') : String(value) ]);
	}
}

function policyNode(st) {
	const p = st.policy, w = st.watcher, rows = [];

	if (p) {
		addPolicy(rows, p, '');
		rows.push([ _('Rules owned by'), st.owner === 'socket' ? _('the watcher: nobody else may change them') :
			_('nobody: whoever is root may change them') ]);
	}
	if (w) {
		rows.push([ _('Watcher'), _('process %d, up for %t').format(w.pid, Math.round(number(w.age_ms) / 1000)) ],
			[ _('Changes of others undone'), String(number(w.undone)) ]);
		if (w.last_undone)
			rows.push([ _('The last of them'), '%s (%d), %s, %s'.format(w.last_undone.name, w.last_undone.pid,
				w.last_undone.what, ago(w.last_undone.ago_ms)) ]);
		for (const tried of w.routes_tried || [])
			rows.push([ _('A route led a closed resolver outside'), '%s: %s, %s'.format(tried.resolver, tried.link, ago(tried.ago_ms)) ]);
	} else if (p) {
		rows.push([ _('Watcher'), _('none') ]);
	}
	return table(null, rows, _('The guard is down.'));
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load: function() {
		return Promise.all([ this.ask(), L.resolveDefault(callCheck(), {}) ]);
	},

	/* What was answered, or why not: the page goes on either way. */
	ask: function() {
		return Promise.all([ callStatus(), L.resolveDefault(callLog(LOG_LINES), []), L.resolveDefault(callAttempts(), {}) ])
			.catch((error) => error instanceof Error ? error : new Error(String(error)));
	},

	update: function(answer) {
		const failed = answer instanceof Error || !answer[0].state;

		dom.content(this.place.failed, failed ? [ message('danger', answer instanceof Error ?
			_('leakguard cannot be asked: %s').format(answer.message) :
			_('leakguard cannot be asked: it did not answer.')) ] : []);
		this.place.pause.style.display = failed ? 'none' : '';
		/* What was seen last is no answer: better none at all. */
		dom.content(this.place.state, failed ? [] : [ stateNode(answer[0]), warningsNode(answer[0], this.refused) ]);
		this.place.details.style.display = failed ? 'none' : '';
		if (failed)
			return;

		const st = answer[0];
		const paused = number(st.pause_left_ms) > 0;

		dom.content(this.place.counters, [ countersNode(st) ]);
		dom.content(this.place.blocked, [ blockedNode(st) ]);
		dom.content(this.place.attempts, [ attemptsNode(st, answer[2]) ]);
		dom.content(this.place.tunnels, [ tunnelsNode(st) ]);
		dom.content(this.place.resolvers, [ resolversNode(st) ]);
		dom.content(this.place.links, [ linksNode(st) ]);
		dom.content(this.place.policy, [ policyNode(st) ]);
		dom.content(this.place.log, [ answer[1].length ? E('pre', { 'id': 'leakguard-log', 'style': 'white-space:pre-wrap' },
			[ answer[1].slice().reverse().join('\n') ]) : E('p', {}, [ E('em', {}, [ _('Nothing yet.') ]) ]) ]);
		this.place.resume.style.display = paused ? '' : 'none';
		this.place.pause.style.display = st.state === 'OFF' ? 'none' : '';
	},

	refresh: function() {
		return this.ask().then(L.bind(this.update, this));
	},

	/* The program's own words, whether it did it or not. */
	tell: function(answer) {
		if (!answer.ok)
			ui.addNotification(null, E('p', {}, [ String(answer.error || _('leakguard gave no reason.')) ]), 'danger');
		return this.refresh();
	},

	handlePause: function() {
		return callPause(this.place.duration.value).then(L.bind(this.tell, this));
	},

	handleResume: function() {
		return callResume().then(L.bind(this.tell, this));
	},

	pauseNode: function() {
		const closed = L.hasViewPermission() ? null : 'disabled';

		this.place.duration = E('select', { 'id': 'leakguard-duration', 'class': 'cbi-input-select', 'style': 'width:auto', 'disabled': closed },
			[ ...PAUSES.map((p) => E('option', { 'value': p[0], 'selected': p[0] === '5m' ? 'selected' : null }, [ p[1] ])) ]);
		this.place.resume = E('button', { 'id': 'leakguard-resume', 'class': 'btn cbi-button cbi-button-positive', 'disabled': closed,
			'click': ui.createHandlerFn(this, 'handleResume') }, [ _('Resume now') ]);
		return E('p', { 'class': 'leakguard-pause' }, [
			this.place.duration, ' ',
			E('button', { 'id': 'leakguard-pause', 'class': 'btn cbi-button cbi-button-negative', 'disabled': closed,
				'click': ui.createHandlerFn(this, 'handlePause') }, [ _('Pause') ]), ' ',
			this.place.resume, ' ',
			E('small', {}, [ _('For a captive portal, say. All names of all clients go out meanwhile; the kernel ends it by itself.') ])
		]);
	},

	render: function(data) {
		const place = this.place = {};

		for (const name of [ 'failed', 'state', 'counters', 'blocked', 'attempts', 'tunnels', 'resolvers', 'links', 'policy', 'log' ])
			place[name] = E('div', { 'id': 'leakguard-place-' + name });
		/* It is not made anew: whoever reads further down stays there. */
		place.attempts.style.cssText = 'max-height:32em;overflow:auto';
		place.pause = this.pauseNode();
		place.details = E('div', {}, [
			section(_('Counters'), [ place.counters ]),
			section(_('Blocked, by the link it would have left through'), [ place.blocked ]),
			section(_('Last attempts'), [ place.attempts ]),
			section(_('Tunnels'), [ place.tunnels ]),
			section(_('Resolvers'), [ place.resolvers ]),
			section(_('Links'), [ place.links ]),
			section(_('What is in force'), [ place.policy ]),
			section(_('Last messages'), [ place.log ])
		]);
		this.refused = data[1].ok === false ? String(data[1].error) : null;
		this.update(data[0]);
		poll.add(L.bind(this.refresh, this));

		return E('div', {}, [
			E('h2', { 'name': 'content' }, [ _('DNS leak guard') ]),
			place.failed, place.state, place.pause, place.details
		]);
	}
});
