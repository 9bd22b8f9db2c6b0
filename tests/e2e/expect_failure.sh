#!/bin/sh
# expect_failure.sh STATUS TEXT COMMAND...: succeeds only if the command ends with that status and has said that line.
wanted=$1 text=$2
shift 2
said=$("$@" 2>&1)
status=$?
echo "$said"
if [ "$status" -ne "$wanted" ]; then
    echo "ended with $status, not $wanted"
    exit 1
fi
if ! echo "$said" | grep -qx " *$text"; then
    echo "did not say: $text"
    exit 1
fi
