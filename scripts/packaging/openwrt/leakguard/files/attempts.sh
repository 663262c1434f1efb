#!/bin/sh
# The last blocked attempts, for the page and `ubus call leakguard attempts`:
# what `leakguard monitor` says, kept in memory and nowhere else. procd runs it
# where `attempts` is set. It is a reader: the guard needs none of it.
# shellcheck shell=dash disable=SC1091,SC2094 # uci.sh; a pipe is no file

. /usr/lib/leakguard/uci.sh

# Two files take turns, so that no line is written twice: `now` becomes `before`
# once it has so many lines or bytes.
most_lines=100
most_bytes=49152

lines=0 bytes=0 missed=0 monitor=''

# Whoever ends it wants no list.
end() {
	trap '' HUP INT TERM
	if [ -n "$monitor" ]; then
		kill "$monitor" 2>/dev/null
		wait "$monitor" # the next one cannot listen before
	fi
	rm -rf "$LG_ATTEMPTS"
	exit 0
}

begin() {
	umask 077
	# Killed, it may have left half a line.
	[ ! -e "$LG_ATTEMPTS/pid" ] || rm -rf "$LG_ATTEMPTS"
	mkdir -p "$LG_ATTEMPTS" || exit 1
	echo $$ >"$LG_ATTEMPTS/pid" || exit 1
	rm -f "$LG_ATTEMPTS/pipe" "$LG_ATTEMPTS/missed"
	turn
	mkfifo "$LG_ATTEMPTS/pipe" || exit 1
	# Opened for both first, neither end waits for the other.
	exec 3<>"$LG_ATTEMPTS/pipe" 4>"$LG_ATTEMPTS/pipe" 5<"$LG_ATTEMPTS/pipe" 3>&-
	rm -f "$LG_ATTEMPTS/pipe"
	"$LG_PROGRAM" monitor --json >&4 4>&- 5<&- &
	monitor=$!
	exec 4>&-
}

turn() {
	[ ! -e "$LG_ATTEMPTS/now" ] || mv -f "$LG_ATTEMPTS/now" "$LG_ATTEMPTS/before"
	lines=0 bytes=0
}

# keep LINE: nothing here starts a process, but for the turns.
keep() {
	if [ $lines -ge $most_lines ] || [ $((bytes + ${#1})) -ge $most_bytes ]; then
		turn
	fi
	if printf '%s\n' "$1" 2>/dev/null >>"$LG_ATTEMPTS/now"; then
		lines=$((lines + 1)) bytes=$((bytes + ${#1} + 1))
		return
	fi
	# Removed by the init script; or /tmp is full, and the list makes room.
	[ -d "$LG_ATTEMPTS" ] || end
	rm -f "$LG_ATTEMPTS/now" "$LG_ATTEMPTS/before"
	lines=0 bytes=0
}

# miss LINE: how many were blocked and are not in the list.
miss() {
	local packets=${1##*\"packets\":}
	packets=${packets%%[!0-9]*}
	missed=$((missed + ${packets:-0}))
	printf '%s\n' "$missed" 2>/dev/null >"$LG_ATTEMPTS/missed"
}

trap end HUP INT TERM
begin
while IFS= read -r line <&5; do
	# A quote inside of a string has a backslash before it.
	case $line in
	*'"event":"blocked"'*) keep "$line" ;;
	*'"event":"not_shown"'*) miss "$line" ;;
	esac
done
wait "$monitor"
status=$?
rm -f "$LG_ATTEMPTS/pid"
exit $status
