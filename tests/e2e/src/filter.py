# Applies SystemCallFilter= lines as systemd does (systemd.exec(5)), by libseccomp, and becomes the
# command that follows. A line adds to what may be called; one with ~ takes away from that.
import ctypes, os, subprocess, sys
lines, command = sys.argv[1].split("\n"), sys.argv[2:]
groups, current = {}, None
for line in subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True).stdout.split("\n"):
    if line.startswith("@"): current = groups.setdefault(line.strip(), [])
    elif line.startswith("    ") and not line.strip().startswith("#"): current.append(line.strip())
def calls(word):
    return {call for inner in groups[word] for call in calls(inner)} if word.startswith("@") else {word}
allowed = calls("@default")
for line in lines:
    words = {call for word in line.lstrip("~").split() for call in calls(word)}
    allowed = allowed - words if line.startswith("~") else allowed | words
seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
seccomp.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(0x00050000 | 1)))  # SCMP_ACT_ERRNO(EPERM)
for call in sorted(allowed):
    number = seccomp.seccomp_syscall_resolve_name(call.encode())
    if number >= 0 and seccomp.seccomp_rule_add(context, ctypes.c_uint32(0x7fff0000), number, 0) != 0: sys.exit(f"no rule for {call}")
if seccomp.seccomp_load(context) != 0: sys.exit("the filter is refused")
os.execv(command[0], command)
