'use strict';
/*
 * A stand-in for LuCI's client framework, for tests: written from its public
 * documentation (https://openwrt.github.io/luci/jsapi/), not taken from it.
 * README.md says what it cannot show. Here: L, E(), _(), classes, views, poll.
 */

function _(text) {
	return text;
}

/* Of LuCI's String.format(): %s, %d, %h (HTML-escaped), %t (a time in seconds),
   %1024mB (a unit's prefix) and %%. */
String.prototype.format = function (...args) {
	let at = 0;

	return this.replace(/%(1024m|[sdht%])/g, (match, kind) => {
		if (kind === '%')
			return '%';
		let value = args[at++];

		switch (kind) {
		case 't':
			return [[3600, 'h'], [60, 'm'], [1, 's']].map(([unit, name]) =>
				`${Math.floor(value / unit % (unit === 3600 ? Infinity : 60))}${name}`).join(' ');
		case '1024m': {
			const units = ['', 'K', 'M', 'G', 'T'];

			for (; value >= 1024 && units.length > 1; value /= 1024)
				units.shift();
			return `${Number(value).toFixed(2)} ${units[0]}`;
		}
		case 'd':
			return String(Math.trunc(Number(value)) || 0);
		case 'h':
			return String(value).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
		default:
			return String(value);
		}
	});
};

/* LuCI.dom: a string that is alone is markup, as there; in an array it is text. */
const DOM = {
	elem: (value) => value instanceof Node,

	append(node, children) {
		if (!this.elem(node))
			return null;
		if (Array.isArray(children))
			node.append(...children.map((c) => this.elem(c) ? c : String(c)));
		else if (typeof children === 'function')
			return this.append(node, children(node));
		else if (this.elem(children))
			node.append(children);
		else if (children !== null && children !== undefined)
			node.innerHTML = String(children);
		return node.lastChild;
	},

	content(node, children) {
		node.replaceChildren();
		return this.append(node, children);
	},

	attr(node, attributes) {
		for (const [key, value] of Object.entries(attributes)) {
			if (value === null || value === undefined)
				continue;
			if (typeof value === 'function')
				node.addEventListener(key, value);
			else
				node.setAttribute(key, typeof value === 'object' ? JSON.stringify(value) : value);
		}
	},

	create(tag, attributes, children) {
		const plain = attributes && typeof attributes === 'object' &&
			!Array.isArray(attributes) && !this.elem(attributes);
		const node = document.createElement(tag);

		if (plain)
			this.attr(node, attributes);
		this.append(node, plain ? children : attributes);
		return node;
	},
};

function E(...args) {
	return DOM.create(...args);
}

/* LuCI.baseclass: extend() makes a constructor; __init__ is called by it. */
class Baseclass {
	constructor(...args) {
		this.__init__(...args);
	}

	static extend(properties) {
		const made = class extends this {};

		Object.assign(made.prototype, properties);
		return made;
	}

	__init__() {}
}

const Poll = {
	entries: [],

	add(fn, interval) {
		const call = () => Promise.resolve(fn()).catch((e) => console.error(e));

		this.entries.push({ fn, id: setInterval(call, 1000 * (interval || L.env.pollinterval)) });
		return true;
	},

	remove(fn) {
		this.entries.filter((e) => e.fn === fn).forEach((e) => clearInterval(e.id));
		this.entries = this.entries.filter((e) => e.fn !== fn);
	},

	active() {
		return this.entries.length > 0;
	},
};

/* LuCI.view: load(), then render(), and a footer for what can be saved. */
const View = Baseclass.extend({
	__init__() {
		const place = document.getElementById('view');

		Promise.resolve(this.load())
			.then((data) => this.render(data))
			.then((nodes) => {
				DOM.content(place, nodes);
				DOM.append(place, this.addFooter());
				place.setAttribute('data-ready', '');
			})
			.catch((error) => L.fail(error));
	},

	load() {},
	render() {},

	forms() {
		return Promise.all([...document.querySelectorAll('.cbi-map')].map((node) => node.instance));
	},

	handleSave() {
		return this.forms().then((maps) => Promise.all(maps.map((m) => m.save())));
	},

	handleSaveApply(ev, mode) {
		return this.handleSave(ev).then(() => L.require('ui'))
			.then((ui) => ui.changes.apply(mode === '0'));
	},

	handleReset() {
		return this.forms().then((maps) => Promise.all(maps.map((m) => m.reset())));
	},

	addFooter() {
		const button = (kind, label, handler) => handler && !L.env.readonly ? [
			E('button', {
				class: `btn cbi-button cbi-button-${kind}`,
				click: (ev) => Promise.resolve(handler.call(this, ev, '1')).catch((e) => console.info(e)),
			}, [label]), ' '] : [];

		return E('div', { class: 'cbi-page-actions' }, [
			...button('apply', 'Save & Apply', this.handleSaveApply),
			...button('save', 'Save', this.handleSave),
			...button('reset', 'Reset', this.handleReset),
		]);
	},
});

const L = {
	env: {},
	loaded: {
		baseclass: Promise.resolve(Baseclass), dom: Promise.resolve(DOM),
		view: Promise.resolve(View), poll: Promise.resolve(Poll),
	},

	/* 'require form'; 'require tools.widgets as widgets'; in a file's first lines. */
	require(name) {
		this.loaded[name] ??= fetch(`${this.env.resource}/${name.replaceAll('.', '/')}.js`)
			.then((answer) => {
				if (!answer.ok)
					throw new Error(`no module ${name}`);
				return answer.text();
			})
			.then(async (source) => {
				const wanted = [...source.matchAll(/^'require ([\w.-]+)(?: as (\w+))?';$/gm)];
				const names = wanted.map((w) => w[2] ?? w[1].replaceAll('.', '_'));
				const values = await Promise.all(wanted.map((w) => this.require(w[1])));
				const made = new Function('L', 'E', '_', ...names,
					`${source}\n//# sourceURL=${name}.js`)(this, E, _, ...values);

				return typeof made === 'function' ? new made() : made;
			});
		return this.loaded[name];
	},

	bind: (fn, self, ...args) => fn.bind(self, ...args),
	isObject: (value) => value !== null && typeof value === 'object',
	hasViewPermission: () => !L.env.readonly,
	toArray: (value) => value === null || value === undefined ? [] :
		Array.isArray(value) ? value : String(value).trim().split(/\s+/).filter(Boolean),
	resolveDefault: (value, otherwise) => Promise.resolve(value)
		.then((v) => v ?? otherwise, () => otherwise),
	url: (...parts) => ['/cgi-bin/luci', ...parts].join('/'),

	fail(error) {
		console.error(error);
		DOM.append(document.getElementById('messages'), E('div', { class: 'alert-message error' }, [String(error)]));
	},

	boot(env) {
		Object.assign(this.env, { pollinterval: 5 }, env);
		this.require(`view.${env.view.replaceAll('/', '.')}`).catch((e) => this.fail(e));
	},
};
