# A node, or a drop-in, that takes away what the job needs: said clearly, with exit code 77, and not
# tried again and again.
ALL="CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
has_failed() { [ "$(show ActiveState)" = failed ]; }
refuses() { # WORD-OF-THE-MESSAGE
    systemctl stop $UNIT
    systemctl reset-failed $UNIT 2>/dev/null
    mark
    systemctl start $UNIT
    wait_for 60 has_failed || return 1
    echo "status $(show ExecMainStatus), restarts $(show NRestarts): $(journal -o cat | tail -n 3)"
    [ "$(show ExecMainStatus) $(show NRestarts)" = "77 0" ] && journal_says "$1"
}
for lacking in CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE; do
    rest=$(echo " $ALL " | sed "s/ $lacking / /")
    drop_in AmbientCapabilities= "AmbientCapabilities=$rest" CapabilityBoundingSet= "CapabilityBoundingSet=$rest"
    check "without $lacking it says so, once" refuses "missing $lacking"
done
drop_in 'SystemCallFilter=~bpf'
check "without bpf(2) it says so, once" refuses 'bpf\|map\|program'
say "info without bpf(2): $(journal -o cat | grep -i 'exit_code\|bpf\|map' | tail -n 1)"
no_drop_in

# What it can do without.
umount /sys/fs/bpf
drop_in InaccessiblePaths=/sys/kernel/btf
fresh_start
check "it attaches without BTF and bpffs" wait_for 60 is_attached
before=$(counted)
request 20
check "it counts without BTF and bpffs" grows_to $((before + 20))
no_drop_in
mount -t bpf bpf /sys/fs/bpf
fresh_restart
wait_for 60 is_attached
