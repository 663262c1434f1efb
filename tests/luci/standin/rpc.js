'use strict';
/* A stand-in for LuCI.rpc: declare(), with params, expect, filter and reject. */

let serial = 0;

async function send(object, method, args) {
	const answer = await fetch(L.env.ubuspath, {
		method: 'POST',
		headers: { 'Content-Type': 'application/json' },
		body: JSON.stringify({
			jsonrpc: '2.0', id: ++serial, method: 'call',
			params: [L.env.sessionid, object, method, args],
		}),
	});
	const reply = await answer.json();

	if (reply.error)
		throw new Error(`RPC call to ${object}/${method} failed: ${reply.error.message}`);
	return reply.result;
}

/* The one key that is expected, of its default's type; '' stands for all. */
function pick(value, expect) {
	for (const [key, otherwise] of Object.entries(expect)) {
		const found = key === '' ? value : value?.[key];

		return found === null || found === undefined || typeof found !== typeof otherwise ||
			Array.isArray(found) !== Array.isArray(otherwise) ? otherwise : found;
	}
	return value;
}

return {
	declare(options) {
		return async (...values) => {
			const args = {};

			(options.params || []).forEach((name, i) => {
				if (values[i] !== undefined && values[i] !== null)
					args[name] = values[i];
			});
			const [status, value] = await send(options.object, options.method, args);

			if (options.reject && status !== 0)
				throw new Error(`RPC call to ${options.object}/${options.method} failed with ubus code ${status}`);
			const result = options.expect ? pick(value, options.expect) : value ?? status;

			return options.filter ? options.filter(result, values) : result;
		};
	},

	getSessionID: () => L.env.sessionid,
};
