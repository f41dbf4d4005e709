package ssh

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// refused launches, which must fail, and leave the machines as they were. It
// returns what was said.
func (l *lab) refused(t *testing.T, p *Provider, o nodes.Options, want ...string) string {
	t.Helper()
	c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
	if err == nil {
		c.Close(context.Background())
		t.Fatal("it was launched")
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	for _, m := range l.hosts[:min(o.Nodes, labHosts)] {
		if left := m.left(t); left != "" {
			t.Errorf("on %s are left: %s", m.spec.Name, left)
		}
	}
	return err.Error()
}

// few are options for a small cluster.
func few(t testing.TB, count int) nodes.Options {
	o := nodestest.ProviderOptions(t.TempDir(), "")
	o.Nodes = count
	return o
}

// Whatever is wrong is told with a remedy, and leaves nothing behind.
func TestBadInput(t *testing.T) {
	l := needLab(t)
	o := func(t *testing.T) nodes.Options { return few(t, 1) }
	with := func(t *testing.T) *Provider { return l.provider(t, 2) }
	stranger := filepath.Join(t.TempDir(), "stranger")
	if _, err := newKey(stranger); err != nil {
		t.Fatal(err)
	}
	h1 := l.hosts[0].spec.Dir
	l.hosts[0].sh(t, "ln -sfn "+h1+"/odd "+h1+"/link")
	for _, test := range []struct {
		name string
		more []string
		want []string
	}{
		{"wrong key", []string{"key: " + stranger}, []string{"refuses the keys of root", stranger, "remedy", "authorized_keys"}},
		{"no key", []string{"key: /there/is/none"}, []string{"/there/is/none", "no such file"}},
		{"wrong port", []string{"port: 23"}, []string{"10.84.0.1:23", "connection refused", "remedy"}},
		{"wrong architecture", []string{"user: odd"}, []string{"h1 is a sparc64 machine", "amd64 and arm64"}},
		{"no sudo", []string{"user: plain", "sudo: true"}, []string{"sudo -n does not work", "remedy", "NOPASSWD"}},
		{"a shell that speaks", []string{"user: noisy"}, []string{"Welcome to h1", "remedy", "bashrc"}},
		{"full disk", []string{"folder: " + h1 + "/small/x"}, []string{"MiB are free", "remedy", "folder:"}},
		{"a disk without programs", []string{"folder: " + h1 + "/noexec/x"}, []string{"126", "remedy", "noexec"}},
		{"a folder that can't be", []string{"folder: /proc/x"}, []string{"/proc/x can't be used", "remedy"}},
		{"a folder of somebody else", []string{"user: sudoer", "folder: /var/tmp"}, []string{"belongs to somebody else", "remedy"}},
		{"a folder that is a link", []string{"folder: " + h1 + "/link"}, []string{h1 + "/link is a link", "remedy"}},
		{"a jump host that is none", []string{"jump: 10.84.0.200"}, []string{"h1: on the way there: 10.84.0.200:22 can't be reached"}},
		{"the agent where there is none", []string{"agent: true"}, []string{"SSH_AUTH_SOCK", "ssh-add"}},
		{"a jump host that is a node", []string{"jump: 10.84.0.2"}, []string{"comes from 10.84.0.2", "node n2 (h2)", "remedy"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := with(t)
			text := strings.Replace(string(must(os.ReadFile(p.c.HostsFile))), "  user: root\n", "  "+strings.Join(append(test.more, userLine(test.more)...), "\n  ")+"\n", 1)
			if err := os.WriteFile(p.c.HostsFile, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			l.refused(t, p, few(t, 1+strings.Count(test.name, "is a node")), test.want...)
		})
	}
	t.Run("too few hosts", func(t *testing.T) { l.refused(t, with(t), few(t, 4), "4 nodes", "names 2", "remedy: --nodes 2") })
	t.Run("no such host", func(t *testing.T) {
		p := with(t)
		p.c.HostsFile = filepath.Join(t.TempDir(), "hosts.yaml")
		os.WriteFile(p.c.HostsFile, []byte("hosts:\n- name: nowhere\n  address: nowhere.invalid\n"), 0o644)
		l.refused(t, p, o(t), "nowhere.invalid", "can't be reached", "remedy")
	})
	t.Run("address of another", func(t *testing.T) {
		p := with(t)
		p.c.HostsFile = filepath.Join(t.TempDir(), "hosts.yaml")
		os.WriteFile(p.c.HostsFile, []byte("defaults: {user: root}\nhosts:\n- {name: h1, address: 10.84.0.1}\n- {name: h2, address: 10.84.0.2, inside: 10.84.0.77}\n"), 0o644)
		l.refused(t, p, few(t, 2), "h2: 10.84.0.77 is no address of this host", "10.84.0.2", "remedy")
	})
	t.Run("the harness's address", func(t *testing.T) {
		p := with(t)
		p.c.HostsFile = filepath.Join(t.TempDir(), "hosts.yaml")
		os.WriteFile(p.c.HostsFile, []byte("defaults: {user: root}\nhosts:\n- {name: h1, address: 10.84.0.1, inside: "+labSelf+"}\n"), 0o644)
		l.refused(t, p, o(t), "comes from "+labSelf, "node n1 (h1)", "remedy")
	})
}

// One machine that the hosts file names twice is told from two, before anything
// is started, by doctor as by a run; namespaces of one machine are two.
func TestSameMachine(t *testing.T) {
	l := needLab(t)
	p := l.provider(t, 2)
	p.c.Home = t.TempDir()
	os.MkdirAll(filepath.Join(p.c.Home, ".ssh"), 0o700)
	for _, name := range []string{"id_ed25519", "known_hosts"} {
		os.WriteFile(filepath.Join(p.c.Home, ".ssh", name), must(os.ReadFile(filepath.Join(l.home, ".ssh", name))), 0o600)
	}
	os.WriteFile(filepath.Join(p.c.Home, ".ssh", "config"), []byte("Host twin\n HostName "+l.hosts[0].addr+"\n"), 0o600)
	text := string(must(os.ReadFile(p.c.HostsFile))) + "  - name: h1-again\n    address: twin\n"
	os.WriteFile(p.c.HostsFile, []byte(text), 0o644)
	want := "h1 and h1-again are the same machine"
	l.refused(t, p, few(t, 3), want, "remedy", "once in the hosts file")
	if a := p.Probe(t.Context(), few(t, 3)); a.Err == nil || !strings.Contains(a.Err.Error(), want) {
		t.Errorf("what can be done there: %v", a.Err)
	}
	if a := p.Probe(t.Context(), few(t, 2)); a.Err != nil {
		t.Errorf("two namespaces: %v", a.Err)
	}
	rs, err := l.provider(t, 2).remotes(2)
	if err == nil {
		err = each(rs, func(r *remote) error { defer r.hangUp(); return r.connect(t.Context()) })
	}
	if err != nil {
		t.Fatal(err)
	}
	// Clones of one machine may have the same boot and namespace, but not the same addresses.
	if a, b := strings.Fields(rs[0].facts.network), strings.Fields(rs[1].facts.network); len(a) != 4 || len(b) != 4 || a[0] != b[0] || a[1] == b[1] || a[2] == b[2] {
		t.Errorf("the machines are told apart by %q and %q", a, b)
	}
	for _, m := range l.hosts[:2] {
		m.sh(t, "rm -rf /var/tmp/chaos-0")
	}
	found := Doctor(t.Context(), "", p.c)
	if slices.ContainsFunc(found, func(f Finding) bool { return f.Name == "h1 kernel" }) {
		t.Error("the doctor has looked around twice at once on one machine")
	}
	wrong := slices.DeleteFunc(found, func(f Finding) bool { return f.Err == nil })
	if len(wrong) != 1 || !strings.Contains(wrong[0].Err.Error(), want) {
		t.Errorf("once is enough: %v", wrong)
	}
	for _, m := range l.hosts[:2] {
		if left := m.sh(t, "ls -d /var/tmp/chaos-* 2>/dev/null || true"); left != "" {
			t.Errorf("the doctor left %s on %s", left, m.spec.Name)
		}
	}
}

// Hosts are one where all that is known of their networks is the same.
func TestApart(t *testing.T) {
	host := func(name, network string) *remote {
		return &remote{e: entry{name: name}, facts: facts{network: network}}
	}
	a, clone, unknown := host("a", "boot net 1 2"), host("clone", "boot net 3 2"), host("x", "")
	if err := apart([]*remote{a, clone, unknown, unknown}); err != nil {
		t.Error(err)
	}
	if err := apart([]*remote{a, clone, host("b", "boot net 1 2")}); err == nil || !strings.Contains(err.Error(), "a and b") {
		t.Errorf("taken: %v", err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// userLine keeps the user, where a test names none.
func userLine(more []string) []string {
	for _, line := range more {
		if strings.HasPrefix(line, "user: ") {
			return nil
		}
	}
	return []string{"user: root"}
}

// A server whose key is unknown or has changed is never logged in to, be it the
// host or one on the way there.
func TestBadHostKey(t *testing.T) {
	l := needLab(t)
	known := filepath.Join(l.home, ".ssh", "known_hosts")
	lines := strings.SplitAfter(string(must(os.ReadFile(known))), "\n")
	stranger := drawSigner(t, "ed25519").PublicKey()
	for name, host := range map[string]int{"": 0, " gate": 3} {
		m := l.hosts[host]
		shown := m.key.PublicKey()
		for what, test := range map[string]struct {
			line string // in the place of the right one
			want []string
		}{
			"unknown": {"", []string{m.addr + ":22 is unknown", "add this line to", strings.TrimSpace(lines[host])}},
			"changed": {knownhosts.Line([]string{m.addr}, stranger) + "\n", []string{m.addr + ":22 has CHANGED",
				fmt.Sprintf("known_hosts:%d", host+1), ssh.FingerprintSHA256(stranger), ssh.FingerprintSHA256(shown)}},
			"revoked": {"@revoked * " + string(ssh.MarshalAuthorizedKey(shown)), []string{m.addr, "revoked", fmt.Sprintf("known_hosts:%d", host+1)}},
		} {
			t.Run(what+name, func(t *testing.T) {
				home := t.TempDir()
				os.MkdirAll(filepath.Join(home, ".ssh"), 0o700)
				os.WriteFile(filepath.Join(home, ".ssh", "id_ed25519"), must(os.ReadFile(filepath.Join(l.home, ".ssh", "id_ed25519"))), 0o600)
				now := slices.Clone(lines)
				now[host] = test.line
				known := filepath.Join(home, ".ssh", "known_hosts")
				os.WriteFile(known, []byte(strings.Join(now, "")), 0o600)
				p := l.provider(t, 1)
				if host > 0 {
					p = l.provider(t, 1, "jump: root@"+m.addr)
				}
				p.c.Home = home
				said := strings.Split(l.refused(t, p, few(t, 1), append(test.want, known)...), "\n")
				if paste := "  " + strings.TrimSpace(lines[host]); what != "revoked" && !slices.Contains(said, paste) {
					t.Errorf("nobody can copy %q from %q", paste, said)
				}
				if after := string(must(os.ReadFile(known))); after != strings.Join(now, "") {
					t.Errorf("the known hosts were changed: %s", after)
				}
			})
		}
	}
}

// Ports that somebody else uses are told by number, and another base helps.
func TestBusyPorts(t *testing.T) {
	l := needLab(t)
	p := l.provider(t, 1)
	c, err := p.Launch(t.Context(), nodestest.Talker{}, few(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	o := few(t, 1)
	o.Cluster = "other"
	if second, err := p.Launch(t.Context(), nodestest.Talker{}, o); err == nil || !strings.Contains(err.Error(), ":7000") || !strings.Contains(err.Error(), "another run of chaos") {
		t.Errorf("launched on ports that are in use: %v, %v", second, err)
	}
	q := l.provider(t, 1, "ports: 7100")
	second, err := q.Launch(t.Context(), nodestest.Talker{}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range second.Members() {
		if m.Peer != 7100 {
			t.Errorf("%+v", m)
		}
	}
	if err := second.Close(context.Background()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), labPatience)
	defer cancel()
	conn, err := c.Dial(ctx, c.Members()[0], nodes.ClientPort)
	if err != nil {
		t.Fatalf("closing one cluster hurt another: %v", err)
	}
	conn.Close()
}

// Dials say what a dial on the host would say.
func TestDialErrors(t *testing.T) {
	l := needLab(t)
	c, err := l.provider(t, 1).Launch(t.Context(), nodestest.Talker{}, nodes.Options{Nodes: 1, Dir: t.TempDir(), Cluster: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Dial(t.Context(), nodes.Member{ID: 9}, nodes.ClientPort); err == nil {
		t.Error("a node that is not there was dialled")
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.Dial(t.Context(), c.Members()[0], nodes.ClientPort); err == nil {
		t.Error("a closed cluster was dialled")
	}
}
