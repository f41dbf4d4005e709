package ssh

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// works launches a cluster, cuts a link, and closes it.
func works(t *testing.T, p *Provider, count int) nodes.Abilities {
	t.Helper()
	o := few(t, count)
	able := p.Probe(t.Context(), o)
	c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
	if err != nil {
		t.Fatal(err)
	}
	kind := nodes.Effect{Kind: nodes.Frozen, Node: 1}
	if able.Effects[nodes.Cut] == nil {
		kind = nodes.Effect{Kind: nodes.Cut, From: nodes.Clients, To: 1}
	}
	ev, err := c.Apply(t.Context(), "it", []nodes.Effect{kind})
	if err != nil || !ev.Proven() {
		t.Errorf("%s: %v, %v", kind, ev.Failures(), err)
	}
	if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "nodes", "n1", "log.txt")); err != nil {
		t.Errorf("the node's log did not come: %v", err)
	}
	return able
}

// Hosts are reached over another one, which need not be a node.
func TestJump(t *testing.T) {
	l := needLab(t)
	works(t, l.provider(t, 2, "jump: root@10.84.0.4"), 2)
	for jump, last := range map[string]string{"none": labSelf, "root@10.84.0.4": "10.84.0.4", "root@10.84.0.4,root@10.84.0.3:22": "10.84.0.3"} {
		if from := reached(t, l.provider(t, 1, "jump: "+jump)); from != last {
			t.Errorf("by %s it is reached from %s", jump, from)
		}
	}
}

// reached logs in to the only host, and tells where that sees us come from.
func reached(t *testing.T, p *Provider) string {
	t.Helper()
	rs, err := p.remotes(1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.dialer.connect(t.Context(), rs[0].way)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if out, err := c.run(t.Context(), []byte("in"), "cat"); err != nil || string(out) != "in" {
		t.Errorf("it says %q, %v", out, err)
	}
	f, err := c.learn(t.Context(), rs[0].e, "")
	if err != nil {
		t.Error(err)
	}
	return f.from.String()
}

// A plain user with sudo can do everything, and leaves nothing of root's.
func TestSudo(t *testing.T) {
	l := needLab(t)
	if _, err := exec.LookPath("sudo"); err != nil {
		if required("sudo") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	p := l.as(t, "sudoer", 1)
	able := works(t, p, 1)
	for kind, why := range able.Effects {
		if why != nil {
			t.Errorf("%s: %v", kind, why)
		}
	}
	if left, err := Clean(t.Context(), "", p.c, false); err != nil {
		t.Errorf("%v, %v", left, err)
	}
	for _, m := range l.hosts[:1] {
		if left := m.sh(t, "ls -lR /var/tmp/chaos-1002 2>/dev/null || true"); left != "" || !m.bare(t) {
			t.Errorf("%s still has %s", m.spec.Name, left)
		}
	}
}

// A plain user without can kill and pause, and is told what would help.
func TestPlainUser(t *testing.T) {
	l := needLab(t)
	p := l.as(t, "plain", 1)
	able := works(t, p, 1)
	if able.Effects[nodes.Down] != nil || able.Effects[nodes.Frozen] != nil {
		t.Errorf("%v", able.Effects)
	}
	why := able.Effects[nodes.Cut]
	if why == nil || !strings.Contains(why.Error(), "h1") || !strings.Contains(why.Error(), "remedy") || !strings.Contains(why.Error(), "sudo") {
		t.Errorf("why links can't be cut: %v", why)
	}
	if _, err := Clean(t.Context(), "", p.c, false); err != nil {
		t.Error(err)
	}
}

// Capabilities of the program do instead of root.
func TestCapabilities(t *testing.T) {
	l := needLab(t)
	if _, err := exec.LookPath("setcap"); err != nil {
		if required("sudo") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	p := l.as(t, "plain", 1)
	rs, err := p.remotes(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := rs[0].connect(t.Context()); err != nil { // brings the program
		t.Fatal(err)
	}
	defer rs[0].hangUp()
	l.hosts[0].sh(t, "setcap cap_net_admin,cap_net_raw,cap_kill,cap_sys_ptrace+ep /var/tmp/chaos-1001/bin/*")
	for kind, why := range works(t, p, 1).Effects {
		if why != nil {
			t.Errorf("%s: %v", kind, why)
		}
	}
	// Nobody but root can tell whose process one with capabilities is, so its end,
	// which comes with the session's, is not waited for.
	until(t, "nothing is left", func() bool { return l.hosts[0].left(t) == "" })
	if _, err := Clean(t.Context(), "", p.c, false); err != nil {
		t.Error(err)
	}
}

// as is a provider with another user of the machines.
func (l *lab) as(t testing.TB, user string, count int, more ...string) *Provider {
	t.Helper()
	p := l.provider(t, count, more...)
	text := strings.Replace(string(must(os.ReadFile(p.c.HostsFile))), "  user: root\n", "  user: "+user+"\n", 1)
	if err := os.WriteFile(p.c.HostsFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// Keys that need a passphrase are asked for once, and an SSH agent may hold them.
func TestEncryptedKey(t *testing.T) {
	l := needLab(t)
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "locked")
	signer, err := ssh.NewSignerFromKey(private)
	if err := errors.Join(err, os.WriteFile(path, pem.EncodeToMemory(block), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, m := range l.hosts[:1] {
		authorized := filepath.Join(m.spec.Dir, "authorized_keys")
		before := must(os.ReadFile(authorized))
		os.WriteFile(authorized, slices.Concat(before, ssh.MarshalAuthorizedKey(signer.PublicKey())), 0o644)
		t.Cleanup(func() { os.WriteFile(authorized, before, 0o644) })
	}
	t.Run("asked for", func(t *testing.T) {
		p := l.provider(t, 1, "key: "+path)
		var asked []string
		answers := []string{"wrong", "open sesame"}
		p.dialer.keys.ask = func(_ context.Context, prompt string) ([]byte, error) {
			asked = append(asked, prompt)
			return []byte(answers[len(asked)-1]), nil
		}
		reached(t, p)
		reached(t, p)
		if len(asked) != 2 || !strings.Contains(asked[0], path) || !strings.Contains(asked[1], "does not open it") {
			t.Errorf("asked: %q", asked)
		}
	})
	t.Run("nobody to ask", func(t *testing.T) {
		p := l.provider(t, 1, "key: "+path)
		p.dialer.keys.ask = func(context.Context, string) ([]byte, error) { return nil, errors.New("there is no terminal") }
		l.refused(t, p, few(t, 1), path+" is encrypted", "there is no terminal", "remedy", "ssh-add")
	})
	t.Run("wrong passphrase", func(t *testing.T) {
		p := l.provider(t, 1, "key: "+path)
		p.dialer.keys.ask = func(context.Context, string) ([]byte, error) { return []byte("wrong"), nil }
		l.refused(t, p, few(t, 1), "no passphrase opened", path)
	})
	t.Run("interrupted", func(t *testing.T) {
		p := l.provider(t, 1, "key: "+path)
		ctx, cancel := context.WithCancel(t.Context())
		p.dialer.keys.ask = func(ctx context.Context, _ string) ([]byte, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if a := p.Probe(ctx, few(t, 1)); !errors.Is(a.Err, context.Canceled) {
			t.Errorf("%+v", a)
		}
	})
	t.Run("the doctor is interrupted", func(t *testing.T) {
		p := l.provider(t, 3, "key: "+path)
		ctx, cancel := context.WithCancel(t.Context())
		p.dialer.keys.ask = func(ctx context.Context, _ string) ([]byte, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		wrong := slices.DeleteFunc(p.examine(ctx), func(f Finding) bool { return f.Err == nil })
		if len(wrong) != 1 || !strings.Contains(wrong[0].Err.Error(), "interrupted") {
			t.Errorf("once is enough: %v", wrong)
		}
	})
	t.Run("held by an agent", func(t *testing.T) {
		p := l.provider(t, 1, "key: "+path)
		p.dialer.keys.ask = func(context.Context, string) ([]byte, error) { return nil, errors.New("nobody should be asked") }
		serveAgent(t, private)
		reached(t, p)
	})
	t.Run("an agent that is not to be asked", func(t *testing.T) {
		p := l.provider(t, 1, "key: "+path, "agent: false")
		p.dialer.keys.ask = func(context.Context, string) ([]byte, error) { return nil, errors.New("there is no terminal") }
		serveAgent(t, private)
		l.refused(t, p, few(t, 1), path+" is encrypted", "there is no terminal")
	})
	t.Run("only in an agent", func(t *testing.T) {
		p := l.provider(t, 1, "agent: true")
		p.c.Home = t.TempDir()
		os.Mkdir(filepath.Join(p.c.Home, ".ssh"), 0o700)
		os.WriteFile(filepath.Join(p.c.Home, ".ssh", "known_hosts"), must(os.ReadFile(filepath.Join(l.home, ".ssh", "known_hosts"))), 0o600)
		serveAgent(t, private)
		reached(t, p)
	})
}

// serveAgent is an SSH agent with one key, for this test.
func serveAgent(t *testing.T, key ed25519.PrivateKey) {
	t.Helper()
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: &key}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "a") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	s, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); os.RemoveAll(dir) })
	t.Setenv("SSH_AUTH_SOCK", path)
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(ring, c)
		}
	}()
}

// Where a server has no SFTP a program comes another way, once in a version.
func TestUpload(t *testing.T) {
	l := needLab(t)
	last := l.hosts[labHosts-1]
	for _, m := range []*labMachine{l.hosts[0], last} {
		m.sh(t, "rm -rf /var/tmp/chaos-0")
	}
	p := l.provider(t, labHosts)
	rs, err := p.remotes(0)
	if err != nil {
		t.Fatal(err)
	}
	for round, r := range []*remote{rs[0], rs[labHosts-1], rs[0], rs[labHosts-1]} {
		r.closed = false
		if err := r.connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		sftp, err := r.conn.openSFTP(t.Context())
		if (err == nil) != (r == rs[0]) {
			t.Errorf("%s has SFTP: %v", r.e.name, err)
		}
		if err == nil {
			sftp.Close()
		}
		if fresh := r.facts.sum == ""; fresh != (round < 2) {
			t.Errorf("round %d: uploaded %v", round, fresh)
		}
		m := l.hosts[r.id-1]
		if got := strings.Fields(m.sh(t, "cd /var/tmp/chaos-0/bin; ls -A; sha256sum *")); len(got) != 3 || !strings.Contains(got[0], got[1][:32]) {
			t.Errorf("on %s there are %v", r.e.name, got)
		}
		r.hangUp()
	}
	// One that was damaged is brought again, though its size be right.
	for _, damage := range []string{"echo >> $f", "printf x | dd of=$f bs=1 seek=4096 conv=notrunc 2>/dev/null"} {
		for _, r := range []*remote{rs[0], rs[labHosts-1]} {
			m := l.hosts[r.id-1]
			m.sh(t, "for f in /var/tmp/chaos-0/bin/*; do "+damage+"; done")
			if err := r.connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := r.ask(t.Context(), request{Op: opFind}); err != nil {
				t.Error(err)
			}
			r.hangUp()
			if got := strings.Fields(m.sh(t, "cd /var/tmp/chaos-0/bin; sha256sum *")); !strings.Contains(got[1], got[0][:32]) {
				t.Errorf("a program that was damaged by %s stays: %v", damage, got)
			}
		}
	}
}

// An upload that is given up midway leaves nothing there, over SFTP as without it.
func TestUploadGivenUp(t *testing.T) {
	l := needLab(t)
	p := l.provider(t, labHosts)
	rs, err := p.remotes(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*remote{rs[0], rs[labHosts-1]} {
		m := l.hosts[r.id-1]
		m.sh(t, "rm -rf /var/tmp/chaos-0")
		c, err := p.dialer.connect(t.Context(), r.way)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		f, err := c.learn(t.Context(), r.e, "")
		if err != nil {
			t.Fatal(err)
		}
		endless, in := endlessFile(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := c.place(ctx, r.e, f, &binary{path: endless, sum: strings.Repeat("0", 64), size: 1})
			done <- err
		}()
		until(t, "the upload to "+r.e.name+" has begun", func() bool {
			return m.sh(t, "cat /var/tmp/chaos-0/bin/.upload-* 2>/dev/null | head -c 1") != ""
		})
		cancel()
		in.Close()
		if err := <-done; err == nil {
			t.Error("it was not given up")
		}
		if _, err := c.run(ctx, nil, "true"); !errors.Is(err, context.Canceled) {
			t.Errorf("a command that nobody waits for: %v", err)
		}
		if left, err := c.run(t.Context(), nil, "ls", "-A", "/var/tmp/chaos-0/bin"); err != nil || len(left) > 0 {
			t.Errorf("on %s are left: %s, %v", r.e.name, left, err)
		}
	}
}

// endlessFile is a file that has begun, and ends when its other end is closed.
func endlessFile(t *testing.T) (path string, in *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "endless")
	err := syscall.Mkfifo(path, 0o600)
	if err == nil {
		in, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err == nil {
		t.Cleanup(func() { in.Close() })
		_, err = in.Write(make([]byte, 48<<10)) // more than one packet of SFTP, less than a pipe takes
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, in
}

// A program of a system that is not on the host is brought there.
func TestForeignProgram(t *testing.T) {
	l := needLab(t)
	p := l.provider(t, 1)
	script := filepath.Join(t.TempDir(), "node.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, m := range l.hosts[:1] {
		m.sh(t, "mount -t tmpfs tmpfs "+filepath.Dir(script))
		defer m.sh(t, "umount "+filepath.Dir(script))
	}
	o := few(t, 1)
	c, err := p.Launch(t.Context(), scripted{path: script}, o)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := c.Apply(t.Context(), "it", []nodes.Effect{{Kind: nodes.Frozen, Node: 1}})
	proven(t, "freeze", ev, err)
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/there/is/none", "no-such-program"} {
		if _, err := p.Launch(t.Context(), scripted{path: path}, o); err == nil || !strings.Contains(err.Error(), "remedy: install it") || !strings.Contains(err.Error(), "h1") {
			t.Errorf("a program that is nowhere: %v", err)
		}
	}
	if c, err = p.Launch(t.Context(), scripted{path: "sleep", args: []string{"600"}}, o); err != nil {
		t.Fatalf("the host's own program: %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

type scripted struct {
	nodestest.Talker
	path string
	args []string
}

func (s scripted) Exec(nodes.Member, []nodes.Member, string, nodes.Options) nodes.Exec {
	return nodes.Exec{Path: s.path, Args: s.args, Ready: nodes.ClientPort}
}

// A doctor finds what is right, what is wrong, and leaves nothing.
func TestDoctor(t *testing.T) {
	l := needLab(t)
	for _, m := range l.hosts[:2] {
		m.sh(t, "rm -rf /var/tmp/chaos-*")
	}
	check := func(p *Provider, bad ...string) {
		t.Helper()
		var wrong []string
		for _, f := range Doctor(t.Context(), "", p.c) {
			t.Logf("%s: %s %v", f.Name, f.Note, f.Err)
			if f.Err != nil {
				wrong = append(wrong, f.Name)
			}
		}
		if !slices.Equal(wrong, bad) {
			t.Errorf("wrong are %q, want %q", wrong, bad)
		}
		for _, m := range l.hosts[:2] {
			if left := m.sh(t, "ls -d /var/tmp/chaos-* 2>/dev/null || true"); left != "" || !m.bare(t) {
				t.Errorf("the doctor left %s on %s", left, m.spec.Name)
			}
		}
	}
	check(l.provider(t, 2))
	check(l.as(t, "plain", 1), "h1 nftables (cuts)", "h1 NFQUEUE (weather)", "h1 packet sockets (doubling)")
	check(l.as(t, "odd", 1), "h1 machine")
	check(l.provider(t, 1, "folder: "+l.hosts[0].spec.Dir+"/small/y"), "h1 disk space", "h1 program")
	check(l.provider(t, 1, "port: 24"), "h1 connection")
	q := l.provider(t, 2)
	end := l.wall(t, l.hosts[0], l.hosts[1])
	check(q, "h1 way to the others", "h2 way to the others")
	end()
	if f := Doctor(t.Context(), "", Config{HostsFile: "/there/is/none"}); len(f) != 1 || f[0].Err == nil {
		t.Errorf("no hosts file: %v", f)
	}
}

// Hosts that share a file system don't take each other's program away, how long
// ever one of them looks around.
func TestSharedFolder(t *testing.T) {
	l := needLab(t)
	folder := filepath.Join(l.dir, "shared")
	p := l.provider(t, 3, "folder: "+folder)
	end := l.wall(t, l.hosts[0], l.hosts[1]) // these look for long
	var wrong []string
	for _, f := range Doctor(t.Context(), "", p.c) {
		if f.Err != nil {
			wrong = append(wrong, f.Name)
		}
	}
	end()
	if want := []string{"h1 way to the others", "h2 way to the others"}; !slices.Equal(wrong, want) {
		t.Errorf("wrong are %q, want %q", wrong, want)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the doctor left %s: %v", folder, err)
	}
	works(t, p, 2)
	rs, err := p.remotes(1)
	if err == nil {
		err = rs[0].connect(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer rs[0].hangUp()
	l.hosts[0].sh(t, "cd "+folder+"/bin && echo x >chaos-older")
	if left, err := Clean(t.Context(), "", p.c, false); err != nil || len(left) < 3+1 { // ours on each, the older one on one or more
		t.Errorf("clean took %v, %v", left, err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("clean left %s: %v", folder, err)
	}
	if _, err := rs[0].ask(t.Context(), request{Op: opFind}); err == nil || !strings.Contains(err.Error(), "cleaned up meanwhile") || !strings.Contains(err.Error(), "folder:") {
		t.Errorf("a program that is gone: %v", err)
	}
}

// wall makes one machine drop what comes from another, until what it returns is called.
func (l *lab) wall(t *testing.T, at, from *labMachine) (end func()) {
	t.Helper()
	at.sh(t, "nft 'table ip wall { chain in { type filter hook input priority 0; ip saddr "+from.addr+" drop; }; }'")
	return func() { at.sh(t, "nft delete table ip wall") }
}

// Files that can't be brought home stay on the host, and it is told where, until
// clean takes them.
func TestUnfetched(t *testing.T) {
	l := needLab(t)
	p, o, m := l.provider(t, 1), few(t, 1), l.hosts[0]
	var saying sync.Mutex
	var told []string
	o.Log = func(line string) {
		saying.Lock()
		defer saying.Unlock()
		told = append(told, line)
	}
	c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(o.Dir, "nodes", "n1")
	if err := errors.Join(os.RemoveAll(home), os.WriteFile(home, nil, 0o644)); err != nil { // a file, where the folder is to be
		t.Fatal(err)
	}
	run := strings.TrimSpace(m.sh(t, "ls -d /var/tmp/chaos-0/runs/*"))
	if err := c.Close(t.Context()); err != nil || !strings.Contains(strings.Join(told, "\n"), "the files stay on h1 in "+run+" until chaos clean") {
		t.Errorf("closed: %v, and told %q", err, told)
	}
	if files := m.sh(t, "ls "+run+"/n1"); !strings.Contains(files, "log.txt") || !m.bare(t) {
		t.Errorf("of the run %s there are files %q, tables %q, agents %v", run, files, m.tables(t), m.processes(t, true))
	}
	m.sh(t, "rm "+run+"/owner.json; find "+run+" -exec touch -d '1 hour ago' {} +") // as if we were long gone
	if left, err := Clean(t.Context(), "", p.c, false); err != nil || !slices.ContainsFunc(left, func(l Leftover) bool { return l.Name == run }) {
		t.Errorf("clean took %v, %v", left, err)
	}
}

// Clean takes uploads that broke off, and neither one that may be under way nor
// what is no run's.
func TestCleanKeeps(t *testing.T) {
	l := needLab(t)
	p, m := l.provider(t, 1), l.hosts[0]
	m.sh(t, "rm -rf /var/tmp/chaos-0; cd /var/tmp && umask 077 && mkdir -p chaos-0/bin chaos-0/runs/theirs chaos-0/runs/kit-0123456z-h1 && cd chaos-0 && "+
		"echo x | tee runs/theirs/file bin/.upload-old bin/.upload-new && touch -d '1 hour ago' bin/.upload-old runs/theirs/file runs/*")
	defer m.sh(t, "rm -rf /var/tmp/chaos-0")
	left, err := Clean(t.Context(), "", p.c, false)
	if err != nil || len(left) != 1 || left[0].Name != "/var/tmp/chaos-0/bin/.upload-old" {
		t.Errorf("clean took %v, %v", left, err)
	}
	const want = "bin\nbin/.upload-new\nruns\nruns/kit-0123456z-h1\nruns/theirs\nruns/theirs/file\n"
	if got := m.sh(t, "cd /var/tmp/chaos-0 && find bin runs | sort"); got != want {
		t.Errorf("there is\n%swant\n%s", got, want)
	}
}

// BenchmarkFaults measures on five hosts what people wait for.
func BenchmarkFaults(b *testing.B) {
	l := needLab(b)
	p := l.provider(b, labHosts)
	launch := func() (nodes.Cluster, time.Duration) {
		o := few(b, labHosts)
		began := time.Now()
		c, err := p.Launch(b.Context(), nodestest.Talker{}, o)
		if err != nil {
			b.Fatal(err)
		}
		return c, time.Since(began)
	}
	c, _ := launch() // brings the program
	c.Close(context.Background())
	halves := []nodes.Effect{}
	for _, from := range []nodes.ID{1, 2} {
		for _, to := range []nodes.ID{3, 4, 5} {
			halves = append(halves, nodes.Effect{Kind: nodes.Cut, From: from, To: to}, nodes.Effect{Kind: nodes.Cut, From: to, To: from})
		}
	}
	took := map[string][]time.Duration{}
	c, d := launch()
	took["ready"] = append(took["ready"], d)
	for b.Loop() {
		for name, effects := range map[string][]nodes.Effect{
			"partition": halves, "kill": {{Kind: nodes.Down, Node: 2}}, "pause": {{Kind: nodes.Frozen, Node: 3}},
		} {
			ev, err := c.Apply(b.Context(), name, effects)
			if err != nil || !ev.Proven() {
				b.Fatal(ev.Failures(), err)
			}
			took[name] = append(took[name], ev.Took)
			if ev, err = c.Revert(b.Context(), name); err != nil || !ev.Proven() {
				b.Fatal(ev.Failures(), err)
			}
			took[name+"-heal"] = append(took[name+"-heal"], ev.Took)
		}
	}
	began := time.Now()
	c.Close(context.Background())
	took["gone"] = append(took["gone"], time.Since(began))
	for name, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-ms")
	}
}
