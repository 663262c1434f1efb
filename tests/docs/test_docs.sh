#!/bin/bash
# What is made from the program's tables: manual pages, completions, example.
#
#   BUILD=build tests/docs/test_docs.sh
#
# Needs neither root nor a network. Ends with one line of numbers.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=${BUILD:-build}
leakguard=$build/leakguard
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# check NAME COMMAND...: passes if the command succeeds and says nothing on stderr
check() {
	local name=$1
	shift
	if "$@" >"$work/out" 2>"$work/err" && [ ! -s "$work/err" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "docs: $name: failed"
		sed 's/^/    /' "$work/out" "$work/err"
	fi
}

skip() {
	skipped=$((skipped + 1))
	echo "docs: $1: left out, $2"
}

same() {
	[ "$1" = "$2" ] || {
		echo "expected: $2"
		echo "got:      $1"
		return 1
	}
}

contains() {
	case " $1 " in
	*" $2 "*) ;;
	*)
		echo "expected among them: $2"
		echo "got: $1"
		return 1
		;;
	esac
}

page() {
	mandoc -T ascii "$build/$1" | sed 's|.\x08||g'
}

# --- manual pages ---

lint_page() {
	mandoc -T lint -W warning "$build/$1" | grep -v 'mandoc.db' >"$work/lint"
	[ ! -s "$work/lint" ] || {
		cat "$work/lint"
		return 1
	}
}

no_placeholders() {
	! grep -nE '^@|@[a-z]+(-[a-z]+)*@' "$build/$1"
}

# documents FILE PATTERN: with each line of standard input for %s, the file has it.
documents() {
	local name bad=0
	while read -r name; do
		grep -q -- "${2//%s/$name}" "$1" || {
			echo "$name: not told of"
			bad=1
		}
	done
	return $bad
}

# Names are read from the source, so that a new one has to be documented.
json_fields() {
	grep -oE '(add_string|object_add)\([a-z]+, "[a-z_]+"' src/cmd_show.c |
		sed 's/.*"\(.*\)"/\1/' | sort -u
}

documents_json() {
	page leakguard.8 | sed -n '/^THE JSON/,/^FILES/p' >"$work/json"
	[ "$(json_fields | wc -l)" -gt 20 ] || return 1
	json_fields | documents "$work/json" '\b%s\b'
}

# enum_words MEMBER: the words of an array in status.c
enum_words() {
	sed -n "s/.*\[$1_[A-Z0-9_]*\] = \"\(.*\)\",/\1/p" src/status.c
}

documents_enum() {
	[ "$(enum_words "$1" | wc -l)" -gt 3 ] || return 1
	enum_words "$1" | documents "$build/leakguard.8" "$2"
}

documents_json_version() {
	local version
	version=$(sed -n 's/^#define JSON_VERSION[[:space:]]*//p' src/cmd_show.c)
	page leakguard.8 | grep -A1 '^ *version (number)' | grep -q "^ *$version:"
}

# --- the configuration file, as its page and the example say ---

accepts() {
	"$leakguard" rules -c "$1" >/dev/null
}

refuses() {
	! "$leakguard" rules -c "$1" >/dev/null 2>"$work/said" && grep -q "$2" "$work/said"
}

# Examples must not need a network: names of endpoints are left out.
uncommented() {
	sed -n 's/^#\([a-z-]* *= .*\)/\1/p' src/leakguard.conf.example |
		grep -v example.net >"$work/all.conf"
	accepts "$work/all.conf"
}

example_has_all_keys() {
	local key bad=0
	for key in $("$leakguard" enable -h | sed -n 's/^  --\([a-z-]*\) .*/\1/p' |
		grep -vE '^(run-dir|dry-run|no-watch|version)$'); do
		grep -q "^#$key = " src/leakguard.conf.example || {
			echo "key $key: not in the example"
			bad=1
		}
	done
	return $bad
}

# Each literal block of the page that looks like configuration.
page_examples() {
	sed -n '/^\.Bd -literal/,/^\.Ed/p' src/leakguard.conf.5.in |
		grep -E '^[a-z-]+ *= ' | grep -v example.net >"$work/page.conf"
	[ -s "$work/page.conf" ] && accepts "$work/page.conf"
}

line_limit() {
	local limit
	limit=$(page leakguard.conf.5 | tr -s ' \n' ' ' |
		sed -n 's/.*at most \([0-9]*\) bytes long, without.*/\1/p')
	printf 'tunnel =%*s\n' $((limit - 8)) wg0 >"$work/limit.conf"
	accepts "$work/limit.conf" || return 1
	printf 'tunnel =%*s\n' $((limit - 7)) wg0 >"$work/limit.conf"
	refuses "$work/limit.conf" "at most $limit bytes"
}

# --- bash completion ---

# The last argument is the word at the cursor; prints what is offered.
complete_bash() {
	bash --norc -c '
		. "$0"
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		_leakguard
		echo "${COMPREPLY[*]}"' "$build/leakguard.bash" "$@"
}

offers() {
	same "$(complete_bash "${@:2}")" "$1"
}

offers_among() {
	contains "$(complete_bash "${@:2}")" "$1"
}

offers_no() {
	! offers_among "$@" >/dev/null
}

# Whatever -h shows of a command is offered, and nothing else.
offers_options_of() {
	same "$(complete_bash leakguard "$1" -- | tr ' ' '\n' | sort)" \
		"$("$leakguard" "$1" -h | sed -n 's/^  \(-., \)\{0,1\}\(--[a-z-]*\).*/\2/p' | sort)"
}

offers_links() {
	local link
	for link in /sys/class/net/*/; do
		link=$(basename "$link")
		[ "$link" = lo ] || offers_among "$link" leakguard up --tunnel '' || return 1
	done
	offers_no lo leakguard up --tunnel ''
}

# --- zsh completion ---

zsh_registers() {
	mkdir -p "$work/zsh" && cp "$build/_leakguard" "$work/zsh"
	# shellcheck disable=SC2016 # for zsh
	same "$(zsh -f -c 'fpath=("$1" $fpath); autoload -U compinit
		compinit -u -D && echo $_comps[leakguard]' zsh "$work/zsh")" _leakguard
}

# --- all of it ---

for file in leakguard.8 leakguard.conf.5 leakguard.bash _leakguard; do
	check "$file: all placeholders filled" no_placeholders "$file"
done
if command -v mandoc >/dev/null; then
	check "leakguard.8: mandoc -T lint" lint_page leakguard.8
	check "leakguard.conf.5: mandoc -T lint" lint_page leakguard.conf.5
	check "leakguard.8: the JSON's fields" documents_json
	check "leakguard.8: the JSON's version" documents_json_version
	check "leakguard.conf.5: a line's limit" line_limit
else
	skip "manual pages" "mandoc is not installed"
fi
check "leakguard.8: warnings" documents_enum WARNING '^\.It Qq %s$'
check "leakguard.8: states" documents_enum GUARD_STATE '^\.It Sy %s$'
check "leakguard.conf.5: its examples" page_examples
check "example: as it is" accepts src/leakguard.conf.example
check "example: all uncommented" uncommented
check "example: every key" example_has_all_keys

commands=$("$leakguard" -h | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | tr '\n' ' ')
check "bash: commands" offers "${commands% }" leakguard ''
check "bash: a command begun" offers enable leakguard en
check "bash: commands after options" offers enable leakguard -v -c /etc/x en
check "bash: commands after --config=" offers enable leakguard --config = /etc/x en
for command in $commands; do
	check "bash: options of $command" offers_options_of "$command"
done
check "bash: global options" offers "--run-dir" leakguard --r
check "bash: links" offers_links
check "bash: values" offers "either both" leakguard enable --mode ''
check "bash: values, --mode=bo" offers both leakguard enable --mode = bo
check "bash: values, --mode=" offers "either both" leakguard enable --mode =
check "bash: nothing to offer" offers "" leakguard enable --resolver ''
touch "$work/some.conf"
check "bash: files" offers "$work/some.conf" leakguard -c "$work/so"
check "bash: directories" offers_no "$work/some.conf" leakguard --run-dir "$work/so"
if command -v zsh >/dev/null; then
	check "zsh: parses" zsh -n "$build/_leakguard"
	check "zsh: is found" zsh_registers
else
	skip "zsh" "it is not installed"
fi

echo "docs: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
