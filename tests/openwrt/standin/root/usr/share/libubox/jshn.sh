# shellcheck shell=dash disable=SC2034,SC2154
# Stand-in for libubox's jshn.sh: makes objects of strings, booleans and arrays
# of strings; reads flat objects of strings and numbers. See tests/openwrt/README.md.

json_init() { _json='' _json_comma='' _json_end='}'; _json='{'; }

_json_text() {
	printf '%s' "$1" | awk '
	BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
	{
		if (NR > 1) printf "\\n"
		for (i = 1; i <= length($0); i++) {
			c = substr($0, i, 1)
			if (c == "\"" || c == "\\") printf "\\%s", c
			else if (code[c] < 32) printf "\\u%04x", code[c]
			else printf "%s", c
		}
	}'
}

_json_add() {
	_json="$_json$_json_comma"
	[ "$_json_end" = ']}' ] || _json="$_json\"$(_json_text "$1")\":"
	_json="$_json$2"
	_json_comma=,
}

json_add_string() { _json_add "$1" "\"$(_json_text "$2")\""; }
json_add_boolean() {
	case $2 in
	1) _json_add "$1" true ;;
	*) _json_add "$1" false ;;
	esac
}
json_add_array() {
	_json_add "$1" '['
	_json_comma='' _json_end=']}'
}
json_close_array() {
	_json="$_json]"
	_json_comma=, _json_end='}'
}
json_dump() { printf '%s}\n' "$_json"; }

json_load() {
	eval "$(printf '%s\n' "$1" | awk '
	function word(    c, text) {
		while ((c = substr(all, at, 1)) ~ /[ \t\n,:{]/ && at <= length(all)) at++
		if (c == "}" || at > length(all)) return 0
		value = ""
		if (c != "\"") {
			while (substr(all, at, 1) !~ /[ ,}]/ && at <= length(all)) value = value substr(all, at++, 1)
			return 1
		}
		for (at++; (c = substr(all, at, 1)) != "\"" && at <= length(all); at++) {
			if (c == "\\") {
				c = substr(all, ++at, 1)
				if (c == "n") c = "\n"
				if (c == "t") c = "\t"
			}
			value = value c
		}
		at++
		return 1
	}
	{ all = all $0 }
	END {
		at = 1
		while (word()) {
			name = value
			if (!word()) break
			gsub(/\047/, "\047\\\047\047", value)
			if (name ~ /^[a-z_]+$/) printf "_json_var_%s=\047%s\047;", name, value
		}
	}')"
}

json_get_var() { eval "$1=\$_json_var_$2"; }
