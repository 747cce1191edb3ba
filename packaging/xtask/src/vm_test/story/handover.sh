# A restart and an upgrade under load: no counter falls, nothing is counted twice, and what is missed is told.
systemctl reset-failed $UNIT
settled() { once=$(counted) && $B sleep 1 && [ "$(counted)" = "$once" ]; }
handover() { # NAME COMMAND...
    handed=$1
    shift
    first=$(counted)
    load_begins
    wait_for 60 load_reaches 20
    # The last scrape before; none that comes later may be below it.
    last=$(counted)
    check "$handed: done" "$@"
    wait_for 60 is_attached
    next=$(counted)
    check "$handed: no counter falls" [ "$next" -ge "$last" ]
    check "$handed: attached once" is_attached_once
    wait_for 60 load_reaches $(($(cat /srv/client/sent) + 20))
    load_ends
    request 1
    check "$handed: it goes on counting" grows_to $((next + 20))
    wait_for 30 settled
    more=$(($(counted) - first)) sent=$((sent + 1))
    check "$handed: nothing is counted twice" [ "$more" -le "$sent" ]
    say "info $handed: $sent requests sent, $more counted, $((sent - more)) while nobody looked; lost exchanges so far: $(lost)"
}
mark
handover restart systemctl restart $UNIT
check "counters were kept" journal_says "counters go on where the last run ended"
pid=$(main_pid)
echo '# kept' >>/etc/pilotfish/agent.toml
handover upgrade apt-get install -y ./second.deb
check "the upgrade runs the new program" [ "$(main_pid)" != "$pid" ]
check "the configuration is kept" grep -q '# kept' /etc/pilotfish/agent.toml
journal -o short-monotonic | grep -E 'stopping|ready|Stopp|Start|attached' | tail -n 12 | sed 's/^/vm-story: info /'
systemctl reset-failed $UNIT
before=$(counted)
systemctl restart $UNIT
wait_for 60 is_attached
check "a restart without load changes no count" [ "$(counted)" = "$before" ]
