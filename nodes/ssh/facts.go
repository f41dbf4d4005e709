package ssh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// marks around what the first script prints.
const (
	factsBegin = "chaos-facts"
	factsEnd   = "chaos-end"
)

// factsScript learns, with nothing but a shell, what is needed before our own
// program can run on a host, and makes the folder. One line is one statement.
//
//	$1 the folder, or nothing; $2 "yes" to try sudo; $3 the program's name in the folder
var factsScript = strings.Join([]string{
	`echo ` + factsBegin,
	`echo "uid $(id -u)"`,
	`echo "os $(uname -s)"`,
	`echo "machine $(uname -m)"`,
	`echo "from $SSH_CONNECTION"`,
	`echo "network" $( (cat /proc/sys/kernel/random/boot_id; readlink /proc/self/ns/net; grep -B1 LOCAL /proc/net/fib_trie | cksum) 2>/dev/null )`,
	`d=$1`,
	`[ -n "$d" ] || d=/var/tmp/chaos-$(id -u)`,
	`echo "folder $d"`,
	`e=$( (umask 077; mkdir -p "$d/bin" "$d/runs") 2>&1 ) || echo "trouble" $e`,
	`if [ -L "$d" ] || [ ! -O "$d" ]; then echo "trouble $d is a link or belongs to somebody else"; fi`,
	`echo "free" $(df -Pk "$d" 2>/dev/null | tail -n 1)`,
	`if [ "$2" = yes ]; then echo "sudo" $(sudo -n env true 2>&1 && echo works); fi`,
	`if [ -f "$d/bin/$3" ]; then echo "sum" $(sha256sum < "$d/bin/$3" 2>/dev/null); touch "$d/bin/$3"; fi`,
	`echo ` + factsEnd,
}, "; ")

// facts are what factsScript found.
type facts struct {
	uid     int
	os      string
	arch    string     // as Go calls it; as uname does, where Go has no name
	from    netip.Addr // the controller as the host sees it
	at      netip.Addr // the host's address that it came to
	network string     // names the host's network: two hosts with the same are one; "": not known
	folder  string
	trouble string // why the folder can't be used; "": it can
	free    int64  // bytes, where the folder is; -1: not known
	sudo    string // "works", or what sudo says
	sum     string // of the program that is there; "": none, or no sha256sum
}

// archs are Go's names of what uname -m says.
var archs = map[string]string{"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

// learn runs the script. have is the name that the program would have there.
func (c *connection) learn(ctx context.Context, e entry, have string) (facts, error) {
	try := "yes"
	if e.sudo != nil && !*e.sudo {
		try = "no"
	}
	out, err := c.run(ctx, nil, "sh", "-c", factsScript, "chaos", e.folder, try, have)
	if err != nil {
		return facts{}, fmt.Errorf("ssh: %s: the first command failed: %w; remedy: give its user a shell that runs commands, like /bin/sh", e.name, err)
	}
	f, err := parseFacts(string(out))
	if err != nil {
		return f, fmt.Errorf("ssh: %s: %w", e.name, err)
	}
	return f, nil
}

func parseFacts(out string) (f facts, err error) {
	f.free = -1
	noise, rest, begun := strings.Cut(out, factsBegin+"\n")
	body, _, ended := strings.Cut(rest, factsEnd+"\n")
	if !begun || !ended {
		return f, fmt.Errorf("the host did not answer as a shell does, but %q", short(out))
	}
	f.uid = -1
	for line := range strings.Lines(body) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := f.take(key, value); err != nil {
			return f, err
		}
	}
	if f.uid < 0 || f.os == "" || f.arch == "" || f.folder == "" {
		return f, fmt.Errorf("the host lacks id or uname; it said %q", short(body))
	}
	if strings.TrimSpace(noise) != "" {
		return f, fmt.Errorf("the user's shell prints %q before every command, where only our program may speak; remedy: let ~/.bashrc and the like be silent for shells that are not interactive", short(noise))
	}
	return f, nil
}

func (f *facts) take(key, value string) (err error) {
	words := strings.Fields(value)
	switch key {
	case "uid":
		if f.uid, err = strconv.Atoi(value); err != nil || f.uid < 0 {
			return fmt.Errorf("the host says that its user has the number %q", short(value))
		}
	case "os":
		f.os = value
	case "machine":
		if f.arch = archs[value]; f.arch == "" {
			f.arch = value
		}
	case "from": // SSH_CONNECTION: client, its port, server, its port
		if len(words) == 4 {
			f.from, f.at = parseAddr(words[0]), parseAddr(words[2])
		}
	case "network": // boot, namespace, checksum and size of the addresses: clones of a machine may share the first two
		if len(words) == 4 {
			f.network = value
		}
	case "folder":
		f.folder = value
	case "trouble":
		f.trouble = value
	case "free": // df -P: device, blocks, used, available, …
		if len(words) >= 6 {
			if n, err := strconv.ParseInt(words[len(words)-3], 10, 64); err == nil && n >= 0 && n < 1<<50 {
				f.free = n << 10
			}
		}
	case "sudo":
		f.sudo = value
		if len(words) > 0 && words[len(words)-1] == "works" {
			f.sudo = "works"
		}
	case "sum":
		if len(words) > 0 {
			f.sum = words[0]
		}
	}
	return nil
}

// parseAddr reads an address without its zone; the zero Addr if it is none.
func parseAddr(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

func short(s string) string {
	const most = 200 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// usable tells why nothing of ours can run on the host.
func (f facts) usable(e entry) error {
	switch {
	case f.os != "Linux":
		return fmt.Errorf("ssh: %s runs %s; chaos can hurt Linux hosts only", e.name, f.os)
	case f.arch != "amd64" && f.arch != "arm64":
		return fmt.Errorf("ssh: %s is a %s machine; there are programs for amd64 and arm64 only", e.name, f.arch)
	case f.trouble != "":
		return fmt.Errorf("ssh: %s: the folder %s can't be used: %s; remedy: name another as folder: in the hosts file", e.name, f.folder, f.trouble)
	}
	return nil
}

// prefix is what a command needs before it to have rights.
func (f facts) prefix(e entry) ([]string, error) {
	if f.uid == 0 || e.sudo != nil && !*e.sudo {
		return nil, nil
	}
	if f.sudo == "works" {
		return []string{"sudo", "-n"}, nil
	}
	if e.sudo != nil {
		return nil, fmt.Errorf("ssh: %s: sudo -n does not work there: %s; remedy: a line in /etc/sudoers.d like: USER ALL=(root) NOPASSWD: ALL", e.name, f.sudo)
	}
	return nil, nil
}

// rights says in words what the host's user may do, and the remedy where that is little.
func (f facts) rights(e entry) (string, error) {
	switch {
	case f.uid == 0:
		return "root", nil
	case e.sudo != nil && !*e.sudo:
		return "a plain user, as the hosts file asks for (sudo: false)", errNoRights(e, "sudo is switched off in the hosts file")
	case f.sudo == "works":
		return "sudo -n", nil
	}
	return "a plain user", errNoRights(e, "sudo -n says: "+f.sudo)
}

func errNoRights(e entry, why string) error {
	return errors.New("the user is not root, and " + why +
		"; remedy: log in as root, allow sudo without a password (USER ALL=(root) NOPASSWD: ALL), or give the program capabilities (setcap, see docs/ssh.md)")
}
