'use strict';
'require uci';
'require ui';
'require dom';
'require values';
/*
 * A stand-in for LuCI.form: Map, NamedSection with tabs, TableSection, and the
 * options of values.js. The ids, classes and attributes of LuCI.
 */

const AbstractSection = values.AbstractElement.extend({
	__init__(map, type, title, description) {
		Object.assign(this, { map, type, title, description });
		this.children = [];
		map.sections.push(this);
	},

	option(Type, ...args) {
		const made = new Type(this, ...args);

		this.children.push(made);
		return made;
	},

	formvalue(id, name) {
		return this.children.find((o) => o.option === name).formvalue(id);
	},

	refresh() {
		for (const id of this.cfgsections())
			for (const option of this.children)
				option.refresh(id);
	},

	parse() {
		for (const id of this.cfgsections())
			for (const option of this.children)
				option.parse(id);
	},

	render() {
		return E('div', { class: 'cbi-section', id: `cbi-${this.map.config}-${this.place}` }, [
			...this.title ? [E('h3', {}, this.title)] : [],
			...this.description ? [E('div', { class: 'cbi-section-descr' }, this.description)] : [],
			...this.renderContents(),
		]);
	},
});

const NamedSection = AbstractSection.extend({
	__init__(map, id, ...args) {
		AbstractSection.prototype.__init__.call(this, map, ...args);
		this.id = this.place = id;
		this.tabs = [];
	},

	cfgsections() {
		return uci.get(this.map.config, this.id) ? [this.id] : [];
	},

	tab(name, title, description) {
		this.tabs.push({ name, title, description });
	},

	taboption(tab, ...args) {
		return Object.assign(this.option(...args), { tab });
	},

	renderContents() {
		const menu = E('ul', { class: 'cbi-tabmenu' });
		const panes = this.tabs.map((tab) => {
			menu.append(E('li', { 'data-tab': tab.name, 'click': () => show(tab.name) }, [E('a', {}, tab.title)]));
			return E('div', { class: 'cbi-section-node', 'data-tab': tab.name }, [
				...tab.description ? [E('div', { class: 'cbi-tab-descr' }, tab.description)] : [],
				...this.children.filter((o) => o.tab === tab.name).map((o) => o.render(this.id)),
			]);
		});
		const show = (name) => {
			for (const item of menu.children)
				item.className = item.dataset.tab === name ? 'cbi-tab' : 'cbi-tab-disabled';
			for (const pane of panes)
				pane.classList.toggle('hidden', pane.dataset.tab !== name);
		};

		show(this.tabs[0].name);
		return [menu, ...panes];
	},
});

const TableSection = AbstractSection.extend({
	__init__(map, type, ...args) {
		AbstractSection.prototype.__init__.call(this, map, type, ...args);
		this.place = type;
	},

	cfgsections() {
		return uci.sections(this.map.config, this.type).map((s) => s['.name']);
	},

	/* What was typed stays: LuCI saves it into the page's copy first. */
	change(what) {
		this.map.sections.forEach((s) => s.parse());
		what();
		this.map.fill();
	},

	renderContents() {
		const { config, readonly } = this.map;
		const titles = this.children.map((o) => E('th', { class: 'th cbi-section-table-cell' }, o.title));
		const rows = this.cfgsections().map((id) => E('tr', {
			'class': 'tr cbi-section-table-row', 'data-sid': id, 'id': `cbi-${config}-${id}`,
		}, [
			...this.children.map((o) => o.renderCell(id)),
			E('td', { class: 'td cbi-section-actions' }, [E('button', {
				class: 'btn cbi-button cbi-button-remove', disabled: readonly || null,
				click: () => this.change(() => uci.remove(config, id)),
			}, ['Delete'])]),
		]));

		return [
			E('table', { class: 'table cbi-section-table' }, [
				E('tr', { class: 'tr cbi-section-table-titles' }, titles), ...rows]),
			E('div', { class: 'cbi-section-create' }, [E('button', {
				class: 'btn cbi-button cbi-button-add', disabled: readonly || null,
				click: () => this.change(() => uci.add(config, this.type)),
			}, ['Add'])]),
		];
	},
});

const FormMap = values.AbstractElement.extend({
	__init__(config, title, description) {
		Object.assign(this, { config, title, description });
		this.sections = [];
		this.readonly = !L.hasViewPermission();
	},

	section(Type, ...args) {
		return new Type(this, ...args);
	},

	async render() {
		await uci.load(this.config);
		this.node = E('div', { id: `cbi-${this.config}`, class: 'cbi-map' });
		this.node.instance = this;
		this.fill();
		return this.node;
	},

	fill() {
		dom.content(this.node, [
			...this.title ? [E('h2', { name: 'content' }, this.title)] : [],
			...this.description ? [E('div', { class: 'cbi-map-descr' }, this.description)] : [],
			...this.sections.map((s) => s.render()),
		]);
		this.sections.forEach((s) => s.refresh());
	},

	async save() {
		try {
			this.sections.forEach((s) => s.parse());
			await uci.save();
		} catch (error) {
			ui.showModal('Save error', [
				E('p', {}, ['An error occurred while saving the form:']),
				E('p', {}, [E('em', {}, [error.message])]),
				E('button', { class: 'btn', click: () => ui.hideModal() }, ['Dismiss']),
			]);
			throw error;
		}
		this.fill();
	},

	async reset() {
		this.fill();
	},
});

const { Value, Flag, ListValue, DynamicList } = values;

return { Map: FormMap, NamedSection, TableSection, Value, Flag, ListValue, DynamicList };
