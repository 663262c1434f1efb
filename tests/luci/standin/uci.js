'use strict';
'require rpc';
/* A stand-in for LuCI.uci: a configuration's values, and what is to be changed. */

const call = {
	get: rpc.declare({ object: 'uci', method: 'get', params: ['config'], expect: { values: {} }, reject: true }),
	set: rpc.declare({ object: 'uci', method: 'set', params: ['config', 'section', 'values'], reject: true }),
	add: rpc.declare({ object: 'uci', method: 'add', params: ['config', 'type', 'name', 'values'], reject: true }),
	remove: rpc.declare({ object: 'uci', method: 'delete', params: ['config', 'section', 'options'], reject: true }),
	apply: rpc.declare({ object: 'uci', method: 'apply', params: ['timeout', 'rollback'], reject: true }),
	confirm: rpc.declare({ object: 'uci', method: 'confirm', reject: true }),
};

let serial = 0;

return {
	values: {},  /* config -> section -> what is there, with sections that were made here */
	changed: {}, /* config -> section -> option -> value, null to remove */
	created: {}, /* config -> section -> its name, or null for none */
	removed: {}, /* config -> [section] */

	async load(configs) {
		const names = Array.isArray(configs) ? configs : [configs];

		for (const name of names)
			this.values[name] ??= await call.get(name);
		return names;
	},

	get(config, section, option) {
		const change = this.changed[config]?.[section];

		if (option === undefined)
			return this.values[config]?.[section] ?? null;
		if (change && option in change)
			return change[option];
		return this.values[config]?.[section]?.[option] ?? null;
	},

	set(config, section, option, value) {
		const sections = this.changed[config] ??= {};

		(sections[section] ??= {})[option] = value;
	},

	unset(config, section, option) {
		this.set(config, section, option, null);
	},

	add(config, type, name) {
		const id = name ?? `new${++serial}`;

		(this.created[config] ??= {})[id] = name ?? null;
		(this.values[config] ??= {})[id] = { '.type': type, '.name': id, '.anonymous': !name };
		return id;
	},

	remove(config, section) {
		if (this.created[config] && section in this.created[config])
			delete this.created[config][section];
		else
			(this.removed[config] ??= []).push(section);
		delete this.values[config]?.[section];
		delete this.changed[config]?.[section];
	},

	sections(config, type) {
		return Object.values(this.values[config] || {}).filter((s) => !type || s['.type'] === type);
	},

	async saveSection(config, section, options) {
		const all = Object.entries(options);
		const gone = all.filter(([option, v]) => v === null && this.values[config][section][option] !== undefined);
		const set = all.filter(([, v]) => v !== null);

		if (section in (this.created[config] || {}))
			return call.add(config, this.values[config][section]['.type'],
				this.created[config][section], Object.fromEntries(set));
		if (set.length)
			await call.set(config, section, Object.fromEntries(set));
		if (gone.length)
			await call.remove(config, section, gone.map(([option]) => option));
	},

	async save() {
		const configs = new Set([this.changed, this.created, this.removed].flatMap(Object.keys));

		for (const config of configs) {
			const changed = this.changed[config] || {};

			for (const section of new Set([...Object.keys(this.created[config] || {}), ...Object.keys(changed)]))
				await this.saveSection(config, section, changed[section] || {});
			/* Unnamed ones have their place in their name: from the last on. */
			for (const section of (this.removed[config] || []).reverse())
				await call.remove(config, section);
			delete this.values[config];
			await this.load(config);
		}
		Object.assign(this, { changed: {}, created: {}, removed: {} });
	},

	apply() {
		return call.apply(10, true).then(() => call.confirm());
	},
};
