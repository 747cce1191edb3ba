#!/usr/bin/env bash
# Fetches a broker of Kafka (from Maven) and builds a client (franz-go, a Go module), for `cargo xtask
# l7-test kafka`. Prints the directory that has them; what is there already is not fetched again.
#   scripts/kafka.sh [4.1.1]     into ${XDG_CACHE_HOME:-~/.cache}/pilotfish/kafka/4.1.1
# Needs Java 17 (openjdk-17-jre-headless), Maven and Go. 60 MB.
set -euo pipefail

fail() { printf 'kafka.sh: %s\n' "$*" >&2; exit 1; }

version=${1:-4.1.1}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "\"$version\" is no version; one is 4.1.1"
root=$(cd "$(dirname "$0")/.." && pwd)
to=${XDG_CACHE_HOME:-$HOME/.cache}/pilotfish/kafka/$version
PATH="$PATH:/usr/local/go/bin"
for program in java mvn go; do
  command -v "$program" >/dev/null || fail "$program is needed"
done

mkdir -p "$to"
if [ ! -e "$to/lib/kafka_2.13-$version.jar" ]; then
  cat >"$to/pom.xml" <<EOF
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pilotfish</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
  </dependencies>
</project>
EOF
  mvn --quiet --batch-mode -Dstyle.color=never --file "$to/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$to/lib" >&2
fi
cd "$root/tests/kafka-client"
CGO_ENABLED=0 GOWORK=off go build -trimpath -o "$to/client" . >&2
echo "$to"
