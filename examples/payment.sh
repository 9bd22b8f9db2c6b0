#!/usr/bin/env bash
# A poison message: payments, one of which nobody can work on. It is dead-lettered with the reason, looked at, mended
# and sent back, and holds up none of the others. The worker is a few lines of shell.
#
#   posthorn node &                  # once; or set POSTHORN_NODE to the endpoint of another one
#   examples/payment.sh              # with `posthorn` on the PATH
set -euo pipefail

# The payload comes on standard input. Status 65 says: no attempt will ever succeed, the reason is on standard error.
pay='read -r order cents
case $cents in
    *[!0-9]*) echo "order $order: $cents is no number of cents" >&2; exit 65;;
    *) echo "paid order $order: $cents cents";;
esac'

echo "# three orders, one of them poison"
posthorn send payments "1 1990" "2 12,50" "3 700"

echo "# the others are paid"
posthorn work payments --until-empty --exec "$pay"

echo "# what is dead, and why"
posthorn dlq list payments
id=$(posthorn dlq list payments | awk 'NR == 2 { print $1 }')
posthorn dlq show payments --id "$id"

echo "# mended and sent back, in one step"
posthorn dlq edit payments --id "$id" --payload "2 1250" --redrive

echo "# now it is paid as well"
posthorn work payments --until-empty --exec "$pay"
posthorn queues
