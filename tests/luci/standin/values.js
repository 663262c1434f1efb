'use strict';
'require uci';
'require baseclass';
/*
 * The options of the stand-in for LuCI.form: Flag, Value, ListValue, DynamicList,
 * with the same rules of what is written, removed and refused; no datatypes.
 */

const AbstractElement = baseclass.extend({});

const AbstractValue = AbstractElement.extend({
	rmempty: true,
	optional: false,

	__init__(section, option, title, description) {
		Object.assign(this, { section, option, title, description });
		this.map = section.map;
		this.keys = [];
		this.dependencies = [];
		this.nodes = {};
	},

	value(key, label) {
		this.keys.push([key, label ?? key]);
	},

	depends(field, value) {
		this.dependencies.push(typeof field === 'object' ? field : { [field]: value });
	},

	cbid(id) {
		return `cbid.${this.map.config}.${id}.${this.option}`;
	},

	cfgvalue(id) {
		return uci.get(this.map.config, id, this.option);
	},

	isActive(id) {
		return !this.dependencies.length || this.dependencies.some((d) =>
			Object.entries(d).every(([name, value]) => {
				const other = this.section.children.find((o) => o.option === name);

				return other.isActive(id) && other.formvalue(id) === value;
			}));
	},

	/* true, or what is wrong with one value. */
	check(id, value) {
		if (value === '')
			return this.rmempty || this.optional || 'Expecting: non-empty value';
		return this.validate ? this.validate(id, value) : true;
	},

	wrong(id) {
		const value = this.formvalue(id);
		const values = Array.isArray(value) && value.length ? value : [value ?? ''];

		return values.map((v) => this.check(id, v.length ? v : '')).find((r) => r !== true);
	},

	refresh(id) {
		const wrong = this.isActive(id) ? this.wrong(id) : undefined;
		const node = this.nodes[id];

		node.classList.toggle('hidden', !this.isActive(id));
		node.classList.toggle('cbi-value-error', wrong !== undefined);
		node.querySelector('.cbi-tooltip')?.remove();
		if (wrong !== undefined)
			node.append(E('div', { class: 'cbi-tooltip error' }, [wrong]));
		return wrong;
	},

	write(id, value) {
		uci.set(this.map.config, id, this.option, value);
	},

	remove(id) {
		uci.unset(this.map.config, id, this.option);
	},

	parse(id) {
		const before = this.cfgvalue(id);

		if (this.isActive(id) && this.refresh(id) !== undefined)
			throw new TypeError(`Option "${this.title}" contains an invalid input value.`);
		const now = this.isActive(id) ? this.formvalue(id) : '';

		if (now === null || now.length === 0 || this.isDefault(now)) {
			if (before !== null)
				this.remove(id);
		} else if (JSON.stringify(before) !== JSON.stringify(now)) {
			this.write(id, now);
		}
	},

	isDefault: () => false,

	widgetOf(id) {
		return this.renderWidget(id, this.cfgvalue(id) ?? this.default ?? null);
	},

	listen(id, node) {
		node.addEventListener('change', () => this.section.refresh());
		this.nodes[id] = node;
		return node;
	},

	render(id) {
		return this.listen(id, E('div', {
			'class': 'cbi-value', 'data-name': this.option,
			'id': `cbi-${this.map.config}-${id}-${this.option}`,
		}, [
			E('label', { class: 'cbi-value-title', for: `widget.${this.cbid(id)}` }, this.title),
			E('div', { class: 'cbi-value-field' }, [
				this.widgetOf(id),
				/* Markup, as in LuCI: nothing that comes from outside belongs in it. */
				...this.description ? [E('div', { class: 'cbi-value-description' }, this.description)] : [],
			]),
		]));
	},

	renderCell(id) {
		return this.listen(id, E('td', { 'class': 'td cbi-value-field', 'data-name': this.option }, [this.widgetOf(id)]));
	},

	/* What all inputs have. */
	attributes(id, more) {
		return { id: `widget.${this.cbid(id)}`, disabled: this.map.readonly || null, ...more };
	},

	choices(id) {
		return this.keys.length ? [E('datalist', { id: `choices.${this.cbid(id)}` },
			this.keys.map(([key, label]) => E('option', { value: key }, [label])))] : [];
	},
});

const Value = AbstractValue.extend({
	renderWidget(id, value) {
		return E('div', {}, [E('input', this.attributes(id, {
			type: 'text', class: 'cbi-input-text', placeholder: this.placeholder, value,
			list: `choices.${this.cbid(id)}`,
		})), ...this.choices(id)]);
	},

	formvalue(id) {
		return this.nodes[id].querySelector('input').value;
	},
});

const Flag = AbstractValue.extend({
	enabled: '1',
	disabled: '0',
	default: '0',

	renderWidget(id, value) {
		return E('div', { class: 'cbi-checkbox' }, [E('input', this.attributes(id, {
			type: 'checkbox', class: 'cbi-input-checkbox', checked: value === this.enabled ? '' : null,
		}))]);
	},

	formvalue(id) {
		return this.nodes[id].querySelector('input').checked ? this.enabled : this.disabled;
	},

	isDefault(value) {
		return value === this.default && (this.rmempty || this.optional);
	},
});

const ListValue = AbstractValue.extend({
	renderWidget(id, value) {
		const choices = this.optional ? [['', this.placeholder || '-- Please choose --'], ...this.keys] : this.keys;

		return E('select', this.attributes(id, { class: 'cbi-input-select' }), choices.map(([key, label]) =>
			E('option', { value: key, selected: key === value ? '' : null }, [label])));
	},

	formvalue(id) {
		return this.nodes[id].querySelector('select').value;
	},
});

const DynamicList = AbstractValue.extend({
	renderWidget(id, value) {
		const input = E('input', this.attributes(id, {
			type: 'text', class: 'cbi-input-text', placeholder: this.placeholder, list: `choices.${this.cbid(id)}`,
		}));
		const row = E('div', { class: 'add-item control-group' });
		const add = () => {
			if (input.value !== '' && this.check(id, input.value) === true) {
				row.before(this.item(input.value));
				input.value = '';
				this.section.refresh();
			}
		};

		row.append(input, ...this.choices(id), E('button', {
			class: 'btn cbi-button cbi-button-add', disabled: this.map.readonly || null, click: add,
		}, ['+']));
		input.addEventListener('keydown', (ev) => ev.key === 'Enter' && add());
		return E('div', { class: 'cbi-dynlist' }, [
			...(Array.isArray(value) ? value : value === null ? [] : [value]).map((v) => this.item(v)), row]);
	},

	item(value) {
		const item = E('div', {
			class: 'item',
			click: () => {
				if (this.map.readonly)
					return;
				item.remove();
				this.section.refresh();
			},
		}, [E('span', {}, [this.keys.find(([key]) => key === value)?.[1] ?? value]), E('input', { type: 'hidden', value })]);

		return item;
	},

	/* What was typed and not added yet counts as well, as in LuCI. */
	formvalue(id) {
		return [...this.nodes[id].querySelectorAll('.item > input, .add-item > input')]
			.map((i) => i.value.trim()).filter(Boolean);
	},
});

return { AbstractElement, Value, Flag, ListValue, DynamicList };
