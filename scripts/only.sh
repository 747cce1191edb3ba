#!/bin/sh
# Cargo's runner for test programs: of the packages that it names, or with `not` of all others, it
# runs them; the rest is left to another step.
#   only.sh [not] PACKAGE[,PACKAGE...] COMMAND...
set -eu
named=run others=skip
if [ "$1" = not ]; then
  named=skip others=run
  shift
fi
case ",$1," in
  *",$CARGO_PKG_NAME,"*) what=$named ;;
  *) what=$others ;;
esac
shift
if [ "$what" = skip ]; then
  echo "$CARGO_PKG_NAME: left to another step"
  exit 0
fi
exec "$@"
