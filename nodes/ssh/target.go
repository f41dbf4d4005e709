package ssh

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kevinburke/ssh_config"
)

const (
	jumpsMax       = 8       // hosts on the way to one host
	clientFileMax  = 1 << 20 // bytes of ~/.ssh/config
	defaultSSHPort = 22
)

// A target is one SSH server, with everything that is needed to log in there.
type target struct {
	alias      string // as it was asked for
	host       string // name or IP address to dial, and to look up in known_hosts
	port       int
	user       string
	keys       []keyFile
	agent      *bool    // nil: where there is one
	knownHosts []string // files, the first of which takes new lines
}

// A keyFile is a private key that may be tried.
type keyFile struct {
	path string
	must bool // somebody named it: it must be there
}

func (t target) addr() string { return net.JoinHostPort(t.host, strconv.Itoa(t.port)) }

// String reads "user db1 at 192.0.2.1:22".
func (t target) String() string { return fmt.Sprintf("user %s at %s", t.user, t.addr()) }

// A clientConfig is what ~/.ssh/config and the system's ssh_config say.
type clientConfig struct {
	home  string
	own   string // the name of the person's account
	files []clientFile
}

type clientFile struct {
	path   string
	config *ssh_config.Config
}

// readClientConfig reads the person's own file and then the system's, as ssh
// does. A file that is not there says nothing.
func readClientConfig(home string) (*clientConfig, error) {
	c := &clientConfig{home: home}
	if me, err := user.Current(); err == nil {
		c.own = me.Username
	}
	if c.home == "" {
		var err error
		if c.home, err = os.UserHomeDir(); err != nil {
			return nil, fmt.Errorf("ssh: where is ~/.ssh? %w", err)
		}
	}
	for _, path := range []string{filepath.Join(c.home, ".ssh", "config"), "/etc/ssh/ssh_config"} {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil && info.Size() > clientFileMax {
			err = fmt.Errorf("larger than %d bytes", clientFileMax)
		}
		var b []byte
		if err == nil {
			b, err = os.ReadFile(path)
		}
		var parsed *ssh_config.Config
		if err == nil {
			parsed, err = ssh_config.DecodeBytes(b)
		}
		if err != nil {
			return nil, fmt.Errorf("ssh: %s: %w", path, err)
		}
		c.files = append(c.files, clientFile{path, parsed})
	}
	return c, nil
}

// get is the first value that a file has for a Host.
func (c *clientConfig) get(alias, key string) (string, error) {
	for _, f := range c.files {
		v, err := f.config.Get(alias, key)
		if err != nil {
			return "", fmt.Errorf("ssh: %s: %s of %s: %w", f.path, key, alias, err)
		}
		if v != "" {
			return v, nil
		}
	}
	return "", nil
}

// all is every value that the files have for a Host, in order.
func (c *clientConfig) all(alias, key string) (out []string, err error) {
	for _, f := range c.files {
		v, err := f.config.GetAll(alias, key)
		if err != nil {
			return nil, fmt.Errorf("ssh: %s: %s of %s: %w", f.path, key, alias, err)
		}
		out = append(out, v...)
	}
	return out, nil
}

// way is the chain of servers to a host: those to jump over, then itself.
func (c *clientConfig) way(e entry) ([]target, error) {
	t, err := c.target(e)
	if err != nil {
		return nil, err
	}
	jumps, err := c.jumps(e.address, e.jump)
	if err != nil {
		return nil, err
	}
	return c.over(jumps, t, e, 0)
}

// over resolves the hosts to jump over. Only the first of them may itself have
// others before it, since the rest are reached from the one before.
func (c *clientConfig) over(jumps []string, to target, e entry, depth int) ([]target, error) {
	var out []target
	for i, jump := range jumps {
		j, err := parseJump(jump)
		if err != nil {
			return nil, fmt.Errorf("ssh: the way to %s: %w", to.alias, err)
		}
		j.agent, j.key = e.agent, ""
		t, err := c.target(j)
		if err != nil {
			return nil, err
		}
		if e.key != "" { // a key that is given for a host may be the one for the way, too
			t.keys = append(t.keys, keyFile{c.expand(e.key, t), true})
		}
		if i > 0 {
			out = append(out, t)
			continue
		}
		if depth >= jumpsMax {
			return nil, fmt.Errorf("ssh: the way to %s leads over more than %d hosts: does ProxyJump of ~/.ssh/config lead in a circle?", to.alias, jumpsMax)
		}
		before, err := c.jumps(j.address, "")
		if err != nil {
			return nil, err
		}
		first, err := c.over(before, t, e, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, first...)
	}
	return append(out, to), nil
}

// jumps lists the hosts to jump over: those given, or what the files say.
func (c *clientConfig) jumps(alias, given string) ([]string, error) {
	v := given
	if v == "" {
		var err error
		if v, err = c.get(alias, "ProxyJump"); err != nil {
			return nil, err
		}
		command, err := c.get(alias, "ProxyCommand")
		if err != nil {
			return nil, err
		}
		if v == "" && command != "" && !strings.EqualFold(command, "none") {
			return nil, fmt.Errorf("ssh: %s is reached by a ProxyCommand, which chaos does not run: use ProxyJump, or jump: in the hosts file", alias)
		}
	}
	if v == "" || strings.EqualFold(v, "none") {
		return nil, nil
	}
	out := strings.Split(v, ",")
	if len(out) > jumpsMax {
		return nil, fmt.Errorf("ssh: the way to %s leads over %d hosts; at most %d", alias, len(out), jumpsMax)
	}
	return out, nil
}

// parseJump reads "[user@]host[:port]", or the same as a URL.
func parseJump(s string) (e entry, err error) {
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s), "ssh://"))
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		e.user, rest = rest[:i], rest[i+1:]
	}
	if host, port, splitErr := net.SplitHostPort(rest); splitErr == nil {
		if e.port, err = strconv.Atoi(port); err != nil || e.port < 1 || e.port > 65535 {
			return e, fmt.Errorf("the port of the jump host %q is no number from 1 to 65535", s)
		}
		rest = host
	}
	e.address = strings.Trim(rest, "[]")
	if e.address == "" || strings.HasPrefix(e.address, "-") || strings.ContainsAny(e.address, "/ @") {
		return e, fmt.Errorf("%q is no jump host; one is written [user@]host[:port]", s)
	}
	return e, nil
}

// target fills in what the hosts file leaves open.
func (c *clientConfig) target(e entry) (t target, err error) {
	t = target{alias: e.address, host: e.address, port: e.port, user: e.user, agent: e.agent}
	name, err := c.get(e.address, "HostName")
	if err != nil {
		return t, err
	}
	if name != "" {
		t.host = strings.NewReplacer("%h", e.address, "%n", e.address, "%%", "%").Replace(name)
	}
	if t.user == "" {
		if t.user, err = c.get(e.address, "User"); err != nil {
			return t, err
		}
	}
	if t.user == "" {
		t.user = c.own
	}
	if t.port, err = c.portOf(e); err != nil {
		return t, err
	}
	if t.keys, err = c.keys(e, t); err != nil {
		return t, err
	}
	t.knownHosts, err = c.knownHosts(e.address, t)
	return t, err
}

func (c *clientConfig) portOf(e entry) (int, error) {
	if e.port != 0 {
		return e.port, nil
	}
	v, err := c.get(e.address, "Port")
	if err != nil || v == "" {
		return defaultSSHPort, err
	}
	port, err := strconv.Atoi(v)
	if err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("ssh: ~/.ssh/config: the Port of %s is %q", e.address, v)
	}
	return port, nil
}

// usualKeys are tried where nobody names one.
var usualKeys = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

func (c *clientConfig) keys(e entry, t target) (out []keyFile, err error) {
	if e.key != "" {
		return []keyFile{{c.expand(e.key, t), true}}, nil
	}
	named, err := c.all(e.address, "IdentityFile")
	if err != nil {
		return nil, err
	}
	for _, name := range named {
		if !strings.EqualFold(name, "none") {
			out = append(out, keyFile{path: c.expand(name, t)})
		}
	}
	if len(named) == 0 {
		for _, name := range usualKeys {
			out = append(out, keyFile{path: filepath.Join(c.home, ".ssh", name)})
		}
	}
	return out, nil
}

func (c *clientConfig) knownHosts(alias string, t target) (out []string, err error) {
	v, err := c.get(alias, "UserKnownHostsFile")
	if err != nil {
		return nil, err
	}
	names := strings.Fields(v)
	if len(names) == 0 {
		names = []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}
	}
	global, err := c.get(alias, "GlobalKnownHostsFile")
	if err != nil {
		return nil, err
	}
	if global == "" {
		global = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
	}
	for _, name := range append(names, strings.Fields(global)...) {
		if !strings.EqualFold(name, "none") {
			out = append(out, c.expand(strings.Trim(name, `"`), t))
		}
	}
	return out, nil
}

// expand resolves a leading ~ and the tokens of ssh_config in a file's name.
func (c *clientConfig) expand(name string, t target) string {
	if name == "~" || strings.HasPrefix(name, "~/") {
		name = c.home + name[1:]
	}
	name = strings.NewReplacer("%%", "%", "%d", c.home, "%h", t.host, "%n", t.alias,
		"%p", strconv.Itoa(t.port), "%r", t.user, "%u", c.own).Replace(name)
	if !filepath.IsAbs(name) {
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
	}
	return name
}
