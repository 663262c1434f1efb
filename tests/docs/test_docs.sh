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

# --- the lines for each VPN: the tests take them from the hooks' own page ---

command_lines() {
	sed -n 's/^    *\(.*leakguard.*\)/\1/p' | sort -u
}

readme_vpn_lines() {
	sed -n '/^## With your VPN/,/^## Who/p' README.md | command_lines
}

hooks_have_readme_lines() {
	readme_vpn_lines >"$work/readme"
	command_lines <scripts/hooks/README.md >"$work/hooks"
	[ "$(wc -l <"$work/readme")" -ge 10 ] && ! comm -23 "$work/readme" "$work/hooks" | grep .
}

check "README.md: the lines for each VPN" hooks_have_readme_lines

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

# The lists of names below are read from the source, and the page's from its items,
# so that a new one has to be documented and an old one not forgotten there.

# agree LEAST SOURCE DOCUMENTED: two commands that print the same words, LEAST or more
agree() {
	"$2" | sort -u >"$work/has"
	"$3" | sort -u >"$work/told"
	if [ "$(wc -l <"$work/has")" -lt "$1" ]; then
		echo "expected $1 or more from $2:"
		cat "$work/has"
		return 1
	fi
	diff -U0 --label "$2" --label "$3" "$work/has" "$work/told"
}

# section FIRST LAST: the template's lines from one heading up to another
section() {
	sed -n "/^\.Sh $1\$/,/^\.Sh $2\$/p" src/leakguard.8.in
}

# items MACRO: the first word of each item on standard input that is set with it
items() {
	sed -n "s/^\.It $1 \([^ ]*\).*/\1/p"
}

# members FILE: names of members, also of those that one function adds in another's name
members() {
	tr -s ' \n\t' ' ' <"src/$1" | grep -oE 'add_[a-z]+\([a-z]+, "[a-z_]+"' | sed 's/.*"\(.*\)"/\1/'
}

# Those that are told of by name, in items and in sentences: ".Va a , b", but for "of .Va b above".
told_members() {
	sed -n 's/^\.\(It \)\{0,1\}Va \([a-z_ ,]*\).*/\2/p' | tr -s ' ,' '\n' | grep .
}

json_members() {
	members cmd_json.c
}

documented_members() {
	section 'THE JSON OF STATUS' 'THE JSON OF MONITOR' | told_members
}

# The summary's lists have their names in an array.
json_members_of_monitor() {
	members cmd_monitor_json.c
	sed -n 's/.*\[MONITOR_SORT_[A-Z]*\] = "\(.*\)",/\1/p' src/cmd_monitor_json.c
}

documented_members_of_monitor() {
	section 'THE JSON OF MONITOR' FILES | told_members
}

monitor_events() {
	grep -oE 'begin\("[a-z_]+"' src/cmd_monitor_json.c | cut -d'"' -f2
}

documented_monitor_events() {
	section 'THE JSON OF MONITOR' FILES | sed -n '/^\.It Va event /,/^\.El/p' |
		sed -n 's/^\.Qq \([a-z_]*\).*/\1/p'
}

check_json_text() {
	sed -n '/^@man-command check@/,/^@man-command monitor@/p' src/leakguard.8.in |
		sed -n '/^prints an object/,/^The topics are/p'
}

json_members_of_check() {
	members cmd_check_json.c
}

documented_members_of_check() {
	check_json_text | told_members
}

# What is counted, and so the members of "counts".
check_verdicts() {
	sed 's/",[[:space:]]*\[/",\n[/g' src/check_*.c |
		sed -n 's/.*\[CHECK_VERDICT_[A-Z_]*\] = "\(.*\)",.*/\1/p'
}

documented_check_verdicts() {
	check_json_text | sed -n '/^\.It Va counts/,/^\.It Va links/p' |
		sed -n 's/^\.Qq \([a-z-]*\).*/\1/p'
}

# The words of an array in status.c: enum_words MEMBER
enum_words() {
	sed 's/",[[:space:]]*\[/",\n[/g' src/status.c |
		sed -n "s/.*\[$1_[A-Z0-9_]*\] = \"\([^\"]*\)\",.*/\1/p"
}

warning_codes() {
	enum_words WARNING
}

documented_warnings() {
	section 'THE JSON OF STATUS' 'THE JSON OF MONITOR' | sed -n '/codes of warnings/,$p' | items Qq
}

covers() {
	enum_words LINK_COVER
}

documented_covers() {
	section 'THE JSON OF STATUS' 'THE JSON OF MONITOR' | sed -n '/^What becomes of frames/,/^\.It/p' |
		sed -n 's/^\.Qq \([a-z]*\).*/\1/p'
}

# The same for people.
cover_words() {
	sed -n 's/.*\[LINK_COVER_[A-Z]*\] = "\(.*\)",/\1/p' src/cmd_show.c | sed 's/: $//'
}

documented_cover_words() {
	sed -n '/^@man-command status@/,/^@man-command rules@/p' src/leakguard.8.in |
		sed -n 's/^\.It Li \(.*\)/\1/p' | sed 's/: Ar why$//'
}

states() {
	enum_words GUARD_STATE
}

documented_states() {
	section DESCRIPTION COMMANDS | items Sy
}

states_of_json() {
	section 'THE JSON OF STATUS' 'THE JSON OF MONITOR' | sed -n '/^\.It Va state /,/^\.It Va guarded /p' |
		sed -n 's/^\.Qq \([A-Z]*\).*/\1/p'
}

owners() {
	sed -n 's/.*\[TABLE_OWNER_[A-Z]*\] = "\(.*\)",/\1/p' src/cmd_json.c
}

documented_owners() {
	section 'THE JSON OF STATUS' 'THE JSON OF MONITOR' | sed -n '/^\.It Va owner /,/^\.El/p' | items Qq
}

# Codes stand behind the level; some calls choose between two.
events() {
	cat src/*.c | tr -s ' \n\t' ' ' |
		grep -oE 'log_event\( ?LOG_[^"]*"[a-z-]+"( : "[a-z-]+")?' | grep -oE '"[a-z-]+"' |
		tr -d '"'
}

documented_events() {
	section LOG 'THE JSON OF STATUS' | items Cm
}

# Names of files in the run directory, as the sources that make them have them.
run_files() {
	sed -n 's/^#define [A-Z]*_\(FILE\|TMP\|OFF\)[[:space:]]*"\(.*\)"/\2/p' src/rundir.c \
		src/control.c src/state_file.c
}

documented_run_files() {
	section FILES 'EXIT STATUS' | items Pa | sed -n 's|^@run-dir@/||p'
}

documented_options() {
	sed -n 's/^\.It.* Fl -\([a-z-]*\).*/\1/p' "$build/leakguard.8"
}

options() {
	local command
	for command in $commands; do
		options_of "$command"
	done | sed 's/^--//'
}

documented_keys() {
	sed -n '/^\.Sh KEYS/,/^\.Sh OVERLAPS/p' "$build/leakguard.conf.5" | items Ic
}

keys() {
	sed -n 's/^[[:space:]]*\.name = "\(.*\)",/\1/p' src/config.c
}

# A key that is not repeated replaces the one before: the page lists them.
single_keys() {
	awk -F'"' '/\.name = "/ { name = $2 } /\.repeats = true/ { name = "" }
		/^\t},/ && name { print name; name = "" }' src/config.c
}

documented_single_keys() {
	sed -n '/^A second$/,/^replaces the first/p' src/leakguard.conf.5.in |
		sed -n 's/^\.Ic \([a-z-]*\).*/\1/p'
}

documented_commands() {
	sed -n '/^\.Sh COMMANDS/,/^\.Sh OPTIONS/p' "$build/leakguard.8" | items Ic
}

list_commands() {
	tr ' ' '\n' <<<"${commands% }"
}

documents_json_version() {
	local version
	version=$(sed -n 's/^#define JSON_VERSION[[:space:]]*//p' src/cmd_json.c)
	page leakguard.8 | grep -A1 '^ *version (number)' | grep -q "^ *$version:"
}

# What is true no longer must not be read anywhere.
no_promises_of_old() {
	! grep -nEi 'no watcher yet|until there is a watcher|watcher.*in the making|so far (pins|routes)|layer at the device is|leakguard_bridge' \
		README.md src/*.in src/*.example
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
	for key in $(keys); do
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

options_of() {
	"$leakguard" "$1" -h | sed -n 's/^  \(-., \)\{0,1\}\(--[a-z-]*\).*/\2/p'
}

# Whatever -h shows of a command is offered, and nothing else.
offers_options_of() {
	same "$(complete_bash leakguard "$1" -- | tr ' ' '\n' | sort)" \
		"$(options_of "$1" | sort)"
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

# What _arguments is given for a command; the first call finds that there is one.
zsh_arguments() {
	# shellcheck disable=SC2016 # for zsh
	zsh -f -c '
		_arguments() {
			[[ $1 != -C ]] || { state=option; return 1; }
			print -rl -- "$@"
		}
		words=("$2")
		source "$1"' zsh "$build/_leakguard" "$1"
}

# Whatever -h shows of a command is given, and nothing else.
zsh_offers_options_of() {
	same "$(zsh_arguments "$1" | sed -n 's/^\(([^)]*)\)\{0,1\}\*\{0,1\}\(--[a-z-]*\).*/\2/p' | sort)" \
		"$(options_of "$1" | sort)"
}

zsh_offers_durations() {
	zsh_arguments pause | grep -qxF '1:DURATION:(90s 5m 1h)' &&
		zsh_arguments enable | grep -q '^--pause-max=.*:DURATION:(90s 5m 1h)$'
}

zsh_offers_auto() {
	zsh_arguments enable | grep -q '^\*--tunnel=.*:_leakguard_tunnels$' &&
		zsh_arguments up | grep -q '^\*--tunnel=.*:IF:_leakguard_links$'
}

# --- all of it ---

commands=$("$leakguard" -h | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | tr '\n' ' ')
for file in leakguard.8 leakguard.conf.5 leakguard.bash _leakguard; do
	check "$file: all placeholders filled" no_placeholders "$file"
done
if command -v mandoc >/dev/null; then
	check "leakguard.8: mandoc -T lint" lint_page leakguard.8
	check "leakguard.conf.5: mandoc -T lint" lint_page leakguard.conf.5
	check "leakguard.8: the JSON's version" documents_json_version
	check "leakguard.conf.5: a line's limit" line_limit
else
	skip "manual pages" "mandoc is not installed"
fi
check "leakguard.8: commands" agree 10 list_commands documented_commands
check "leakguard.8: options" agree 20 options documented_options
check "leakguard.8: states" agree 5 states documented_states
check "leakguard.8: states of the JSON" agree 5 states states_of_json
check "leakguard.8: members of status's JSON" agree 40 json_members documented_members
check "leakguard.8: members of check's JSON" agree 30 json_members_of_check documented_members_of_check
check "leakguard.8: verdicts of check" agree 6 check_verdicts documented_check_verdicts
check "leakguard.8: members of monitor's JSON" agree 30 json_members_of_monitor \
	documented_members_of_monitor
check "leakguard.8: events of monitor's JSON" agree 4 monitor_events documented_monitor_events
check "leakguard.8: what becomes of frames" agree 6 covers documented_covers
check "leakguard.8: the same in words" agree 6 cover_words documented_cover_words
check "leakguard.8: owners" agree 3 owners documented_owners
check "leakguard.8: warnings" agree 13 warning_codes documented_warnings
check "leakguard.8: events of the log" agree 13 events documented_events
check "leakguard.8: files of the run directory" agree 6 run_files documented_run_files
check "leakguard.conf.5: keys" agree 14 keys documented_keys
check "leakguard.conf.5: keys that replace" agree 10 single_keys documented_single_keys
check "nothing of old" no_promises_of_old
check "leakguard.conf.5: its examples" page_examples
check "example: as it is" accepts src/leakguard.conf.example
check "example: all uncommented" uncommented
check "example: every key" example_has_all_keys

check "bash: commands" offers "${commands% }" leakguard ''
check "bash: a command begun" offers enable leakguard en
check "bash: commands after options" offers enable leakguard -v -c /etc/x en
check "bash: commands after --config=" offers enable leakguard --config = /etc/x en
for command in $commands; do
	check "bash: options of $command" offers_options_of "$command"
done
check "bash: global options" offers "--run-dir" leakguard --r
check "bash: links" offers_links
check "bash: links, auto" offers_among auto leakguard enable --tunnel ''
check "bash: links, auto of rules" offers_among auto leakguard rules --tunnel = a
check "bash: links, no auto of hooks" offers_no auto leakguard up --tunnel ''
check "bash: links, no auto inside" offers_no auto leakguard enable --inside ''
check "bash: values" offers "either both" leakguard enable --mode ''
check "bash: values, --mode=bo" offers both leakguard enable --mode = bo
check "bash: values, --mode=" offers "either both" leakguard enable --mode =
check "bash: the word of pause" offers "90s 5m 1h" leakguard pause ''
check "bash: the word of pause, behind options" offers 5m leakguard -v pause -c /etc/x 5
check "bash: one word of pause" offers_no 5m leakguard pause 5m ''
check "bash: a duration" offers "90s 5m 1h" leakguard watch --pause-max ''
check "bash: nothing to offer" offers "" leakguard enable --resolver ''
touch "$work/some.conf"
check "bash: files" offers "$work/some.conf" leakguard -c "$work/so"
check "bash: directories" offers_no "$work/some.conf" leakguard --run-dir "$work/so"
check "README.md: the figures of the benchmark" tests/bench/publish.py --check

if command -v zsh >/dev/null; then
	check "zsh: parses" zsh -n "$build/_leakguard"
	check "zsh: is found" zsh_registers
	for command in $commands; do
		check "zsh: options of $command" zsh_offers_options_of "$command"
	done
	check "zsh: durations" zsh_offers_durations
	check "zsh: links, auto" zsh_offers_auto
else
	skip "zsh" "it is not installed"
fi

echo "docs: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
