package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	hostsMax     = 200     // hosts of one file
	hostsFileMax = 1 << 20 // bytes of one file
	nameMax      = 64      // bytes of a host's name
	defaultPorts = 7000    // the first of portCount
	portCount    = 4       // peer, client, status; probes over UDP
)

// Config is where the hosts are and how the person who runs chaos gets there.
type Config struct {
	// HostsFile names the hosts, in YAML.
	HostsFile string
	// Home is the folder in which .ssh lies; "": the user's own.
	Home string
	// Ask asks the person for a passphrase; nil: on the terminal, where there is one.
	Ask func(ctx context.Context, prompt string) ([]byte, error)
	// Log takes one line for the person who watches; may be nil.
	Log func(string)
}

// Check reads the hosts file and what ~/.ssh/config says of its hosts, and logs in
// nowhere. Its errors are mistakes in those files, or that they name fewer hosts
// than count.
func (c Config) Check(count int) error {
	_, err := New("", c).remotes(count)
	return err
}

// An entry is one host of the hosts file.
type entry struct {
	line    int
	name    string // of the host, for people
	address string // as one would type it after "ssh": a name, an IP address, a Host of ~/.ssh/config
	port    int    // 0: as ~/.ssh/config says, or 22
	user    string // "": as ~/.ssh/config says, or the own name
	key     string // file; "": as ~/.ssh/config says, or the usual ones
	agent   *bool  // ask the SSH agent; nil: where there is one
	jump    string // as for ssh -J; "": as ~/.ssh/config says; "none"
	sudo    *bool  // nil: where it is needed and works
	inside  string // the address that the other nodes use; "": address
	folder  string // for program, data and logs; "": /var/tmp/chaos-<uid>
	ports   int    // the first of portCount
}

// readHosts reads and checks the hosts file. Errors name the file and the line.
func readHosts(name string) ([]entry, error) {
	if name == "" {
		return nil, errors.New("ssh: no hosts file is named: --hosts FILE; docs/ssh.md shows one")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("ssh: the hosts file: %w; remedy: docs/ssh.md shows one", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, hostsFileMax+1))
	if err != nil {
		return nil, fmt.Errorf("ssh: the hosts file: %w; remedy: docs/ssh.md shows one", err)
	}
	if len(b) > hostsFileMax {
		return nil, fmt.Errorf("ssh: the hosts file %s is larger than %d bytes", name, hostsFileMax)
	}
	return parseHosts(name, b)
}

func parseHosts(name string, b []byte) ([]entry, error) {
	p := &hostsParser{file: name}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, p.fail(1, "the file is empty; docs/ssh.md shows one")
		}
		return nil, fmt.Errorf("ssh: %s: %w", name, err) // yaml names the line
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, p.fail(1, "there is more than one document in the file")
	}
	if len(doc.Content) != 1 {
		return nil, p.fail(1, "the file is empty; docs/ssh.md shows one")
	}
	if err := p.top(doc.Content[0]); err != nil {
		return nil, err
	}
	return p.entries, p.check()
}

type hostsParser struct {
	file     string
	defaults entry
	entries  []entry
}

func (p *hostsParser) fail(line int, format string, args ...any) error {
	return fmt.Errorf("ssh: %s:%d: %s", p.file, line, fmt.Sprintf(format, args...))
}

// fields calls do for every pair of a mapping; a key that stands twice is an error.
func (p *hostsParser) fields(n *yaml.Node, what string, do func(key string, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return p.fail(n.Line, "%s must be a mapping of names to values", what)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if line, twice := seen[key.Value]; twice {
			return p.fail(key.Line, "%q stands here and in line %d", key.Value, line)
		}
		seen[key.Value] = key.Line
		if err := do(key.Value, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (p *hostsParser) top(n *yaml.Node) error {
	var defaults, hosts *yaml.Node
	err := p.fields(n, "the file", func(key string, v *yaml.Node) error {
		switch key {
		case "hosts":
			hosts = v
		case "defaults":
			defaults = v
		default:
			return p.fail(v.Line, "unknown field %q; there are hosts and defaults", key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if hosts == nil || hosts.Kind != yaml.SequenceNode || len(hosts.Content) == 0 {
		return p.fail(n.Line, "no hosts are listed: hosts: must be a list of one or more")
	}
	if len(hosts.Content) > hostsMax {
		return p.fail(hosts.Line, "%d hosts; at most %d", len(hosts.Content), hostsMax)
	}
	p.defaults = entry{ports: defaultPorts}
	if defaults != nil {
		if err := p.entry(defaults, &p.defaults); err != nil {
			return err
		}
		if d := p.defaults; d.name != "" || d.address != "" || d.inside != "" {
			return p.fail(defaults.Line, "name, address and inside belong to one host; they can't be defaults")
		}
	}
	for _, h := range hosts.Content {
		e := p.defaults
		e.line = h.Line
		if err := p.entry(h, &e); err != nil {
			return err
		}
		p.entries = append(p.entries, e)
	}
	return nil
}

// entry reads one host, or the defaults, into e.
func (p *hostsParser) entry(n *yaml.Node, e *entry) error {
	return p.fields(n, "a host", func(key string, v *yaml.Node) error {
		switch key {
		case "name":
			return p.text(key, v, &e.name)
		case "address":
			return p.text(key, v, &e.address)
		case "port":
			return p.number(key, v, 1, 65535, &e.port)
		case "user":
			return p.text(key, v, &e.user)
		case "key":
			return p.text(key, v, &e.key)
		case "agent":
			return p.truth(key, v, &e.agent)
		case "jump":
			return p.text(key, v, &e.jump)
		case "sudo":
			return p.truth(key, v, &e.sudo)
		case "inside":
			return p.text(key, v, &e.inside)
		case "folder":
			return p.text(key, v, &e.folder)
		case "ports":
			return p.number(key, v, 1, 65535-portCount+1, &e.ports)
		}
		return p.fail(v.Line, "unknown field %q; a host has name, address, port, user, key, agent, jump, sudo, inside, folder, ports", key)
	})
}

func (p *hostsParser) scalar(key string, n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		return p.fail(n.Line, "%s needs one value", key)
	}
	return nil
}

func (p *hostsParser) text(key string, n *yaml.Node, to *string) error {
	if err := p.scalar(key, n); err != nil {
		return err
	}
	if strings.ContainsFunc(n.Value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return p.fail(n.Line, "%s holds a control character", key)
	}
	if strings.HasPrefix(n.Value, "-") {
		return p.fail(n.Line, "%s begins with a dash", key)
	}
	*to = n.Value
	return nil
}

func (p *hostsParser) number(key string, n *yaml.Node, least, most int, to *int) error {
	if err := p.scalar(key, n); err != nil {
		return err
	}
	v, err := strconv.Atoi(n.Value)
	if err != nil || v < least || v > most {
		return p.fail(n.Line, "%s is %q; it must be a number from %d to %d", key, n.Value, least, most)
	}
	*to = v
	return nil
}

func (p *hostsParser) truth(key string, n *yaml.Node, to **bool) error {
	if n.Value != "true" && n.Value != "false" {
		return p.fail(n.Line, "%s is %q; it must be true or false", key, n.Value)
	}
	v := n.Value == "true"
	*to = &v
	return nil
}

// check looks at every host by itself, then at all of them together.
func (p *hostsParser) check() error {
	taken := map[string]int{}
	unique := func(e entry, what, value string) error {
		if line, ok := taken[what+value]; ok {
			return p.fail(e.line, "the %s %s stands in line %d already", what, strings.TrimSuffix(value, ":0"), line)
		}
		taken[what+value] = e.line
		return nil
	}
	for i := range p.entries {
		e := &p.entries[i]
		if err := p.checkOne(e); err != nil {
			return err
		}
		if err := unique(*e, "name", e.name); err != nil {
			return err
		}
		if err := unique(*e, "address", net.JoinHostPort(e.address, strconv.Itoa(e.port))); err != nil {
			return err
		}
		if e.inside != "" {
			if err := unique(*e, "inside address", e.inside); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *hostsParser) checkOne(e *entry) error {
	if e.name == "" {
		return p.fail(e.line, "the host has no name")
	}
	if len(e.name) > nameMax || strings.ContainsFunc(e.name, oddInName) {
		return p.fail(e.line, "the name %q is not 1 to %d letters, digits, dots, dashes and underscores", e.name, nameMax)
	}
	if e.address == "" {
		e.address = e.name
	}
	if strings.ContainsAny(e.address, "@/ ") {
		return p.fail(e.line, "the address %q of %s must be a host alone; the user has a field of its own", e.address, e.name)
	}
	if e.folder != "" && (!path.IsAbs(e.folder) || path.Clean(e.folder) == "/") {
		return p.fail(e.line, "the folder %q of %s must be an absolute path below /", e.folder, e.name)
	}
	if e.inside == "" {
		if ip, err := netip.ParseAddr(e.address); err == nil {
			e.inside = ip.Unmap().String()
		}
		return nil // else it is what the host says
	}
	ip, err := netip.ParseAddr(e.inside)
	if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return p.fail(e.line, "inside is %q; it must be an IP address of %s", e.inside, e.name)
	}
	e.inside = ip.Unmap().String()
	return nil
}

func oddInName(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r)
}
