# From 0.1.0, with every key of its configuration set, to this package: it starts, counters and
# names go on, and what has another name now is said. The two containers are those of the first
# scene.
ADMIN=127.0.0.1:9465
state=/var/lib/pilotfish
version() { dpkg-query -W -f '${Version}' pilotfish; }
version_is() { echo "$(version), not $1"; [ "$(version)" = "$1" ]; }
knows_db() { pilotfish identity 10.0.0.3 --socket /run/pilotfish/agent.sock | grep -w db; }
knows_service() { pilotfish identity 172.16.0.7:80 --socket /run/pilotfish/agent.sock | grep -w api; }
check "apt installs 0.1.0" apt-get install -y ./old.deb
check "it is the older version" version_is "$(dpkg-deb -f old.deb Version)"
systemctl stop $UNIT
cp config-0.1.0.toml /etc/pilotfish/agent.toml
# As an agent leaves it that has watched a cluster; here nobody answers for one, so the names are all there is.
install -o pilotfish -g pilotfish -m 644 cluster-names-0.1.0 $state/cluster-names
rm -f $state/counters.json
check "0.1.0 starts with every key set" fresh_start
check "0.1.0 is attached" wait_for 60 is_attached
request 20
check "0.1.0 counts" grows_to 20
check "0.1.0 knows a pod" wait_for 20 knows_db
before=$(counted)
mark
check "apt upgrades it" apt-get install -y -o Dpkg::Options::=--force-confold ./first.deb
check "it is this version" version_is "$(dpkg-deb -f first.deb Version)"
check "the configuration is the operator's" cmp config-0.1.0.toml /etc/pilotfish/agent.toml
check "it starts with every key of 0.1.0 set" wait_for 60 is_active
check "it is attached after the upgrade" wait_for 60 is_attached
check "one program a direction after the upgrade" wait_for 10 is_attached_once
check "the counters of 0.1.0 were read" journal_says "counters go on where the last run ended"
check "no counter fell" reaches "$before"
request 20
check "counters go on" grows_to $((before + 20))
check "a pod that 0.1.0 knew is known" wait_for 20 knows_db
check "a Service that 0.1.0 knew is known" knows_service
renamed_is_said() { journal -o cat | grep 'attach\.host' | grep 'attach\.node'; }
check "the key that was renamed is said" renamed_is_said
say "info $(journal -o cat | grep -i warn | head -n 3 | tr '\n' '|')"
check "apt purges it after the upgrade" apt-get purge -y pilotfish
ADMIN=127.0.0.1:9464
