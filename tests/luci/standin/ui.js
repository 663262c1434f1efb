'use strict';
'require uci';
'require dom';
/* A stand-in for LuCI.ui: notifications, button handlers, dialogs, applying. */

return {
	addNotification(title, children, ...classes) {
		const message = E('div', { class: ['alert-message', ...classes].join(' ') }, [
			E('button', { class: 'btn dismiss', click: () => message.remove() }, ['Dismiss']),
		]);
		const body = E('div', {});

		if (title)
			dom.append(message, E('h4', {}, [title]));
		dom.append(body, children);
		message.append(body);
		document.getElementById('messages').append(message);
		return message;
	},

	showModal(title, children, ...classes) {
		this.hideModal();
		const box = E('div', { class: ['modal', ...classes].join(' ') }, [E('h4', {}, [title])]);

		/* As in LuCI: an array's strings are text. */
		dom.append(box, children);
		document.body.append(E('div', { id: 'modal_overlay' }, [box]));
		return box;
	},

	hideModal() {
		document.getElementById('modal_overlay')?.remove();
	},

	/* The button cannot be pressed again until what it does is done. */
	createHandlerFn(self, handler, ...args) {
		const fn = typeof handler === 'string' ? self[handler] : handler;

		return (ev) => {
			const button = ev.currentTarget;

			button.disabled = true;
			button.classList.add('spinning');
			return Promise.resolve(fn.call(self, ...args, ev))
				.catch((e) => L.fail(e))
				.finally(() => {
					button.disabled = false;
					button.classList.remove('spinning');
				});
		};
	},

	changes: {
		async apply() {
			await uci.apply();
			document.body.setAttribute('data-applied', '');
		},
	},
};
