package docker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// says fails unless err has all of the words.
func says(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v; it should say %q", what, err, w)
		}
	}
}

// Where no engine answers, that is said with the remedy, by everything.
func TestNoEngine(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "no.sock"))
	o := nodestest.ProviderOptions(t.TempDir(), "")
	_, err := New("", Config{}).Launch(t.Context(), nodestest.Talker{}, o)
	says(t, "launch", err, "no engine", "DOCKER_HOST", "start it")
	a := New("", Config{}).Probe(t.Context(), o)
	says(t, "probe", a.Effects[nodes.Down], "no engine")
	_, err = BuildImage(t.Context(), "", "", nil)
	says(t, "image", err, "no engine")
	_, err = Clean(t.Context(), Config{}, true)
	says(t, "clean", err, "no engine")
	says(t, "watchdog", Watchdog(t.Context(), strings.NewReader(""), io.Discard), "no engine")
	if f := Doctor(t.Context(), "", Config{}); len(f) != 1 || f[0].Err == nil {
		t.Errorf("doctor: %+v", f)
	}
}

// Who may not reach the engine is told how to come by the right, although the
// client keeps nothing of the error but a sentence; of its other sentences what
// matters is left.
func TestNoEngineSentences(t *testing.T) {
	at := endpoint{host: "unix:///x.sock", from: "default"}
	for sentence, want := range map[string]string{
		"permission denied while trying to connect to the docker API at unix:///x.sock":  "permission denied: join the group",
		"Cannot connect to the Docker daemon at unix:///x.sock. Is the daemon running?":  "(default): nothing answers there: start it",
		"the server probably has client authentication (--tlsverify) enabled":            "client authentication",
		"client version 1.40 is too old. Minimum supported API version is 1.44, upgrade": "update the engine",
	} {
		says(t, sentence, noEngine(at, errors.New(sentence)), want)
	}
	says(t, "late", noEngine(at, context.DeadlineExceeded), "nothing answers within 10s")
}

// What answers but is no engine is told from one.
func TestStrangeEngine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write(bytes.Repeat([]byte("babble "), 1000))
			c.Close()
		}
	}()
	t.Setenv("DOCKER_HOST", "tcp://"+l.Addr().String())
	_, err = BuildImage(t.Context(), "", "", nil)
	says(t, "babble", err, "no engine at tcp://127.0.0.1")
}

// Programs that an empty container can't run are refused before anything is made.
func TestBinaries(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "script")
	write(t, text, "#!/bin/sh\n")
	_, err := FindBinary(text, "amd64")
	says(t, "a script", err, "no Linux program", "CGO_ENABLED=0", "script-linux-amd64")
	_, err = FindBinary(filepath.Join(dir, "nothing"), "amd64")
	says(t, "nothing", err, "no such file")
	far := filepath.Join(dir, "far")
	write(t, far, string(elfHeader(183)))
	_, err = FindBinary(far, "amd64")
	says(t, "another machine's", err, "EM_AARCH64", "amd64")
	if got, err := FindBinary(far, "arm64"); err != nil || got != far {
		t.Errorf("its own machine's: %v %v", got, err)
	}
	write(t, text+"-linux-arm64", string(elfHeader(183)))
	if got, err := FindBinary(text, "arm64"); err != nil || got != text+"-linux-arm64" {
		t.Errorf("one beside it: %v %v", got, err)
	}
	if shell := "/bin/sh"; checkBinary(shell, architectureHere()) != nil {
		says(t, "a shell", checkBinary(shell, architectureHere()), "dynamically")
	}
}

// elfHeader is the least that is a program for a machine.
func elfHeader(machine uint16) []byte {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(b[16:], 2) // executable
	binary.LittleEndian.PutUint16(b[18:], machine)
	binary.LittleEndian.PutUint32(b[20:], 1)
	binary.LittleEndian.PutUint16(b[52:], 64)
	binary.LittleEndian.PutUint16(b[54:], 56)
	return b
}

func architectureHere() string {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "amd64"
	}
	defer f.Close()
	b := make([]byte, 20)
	if _, err := io.ReadFull(f, b); err == nil && binary.LittleEndian.Uint16(b[18:]) == 183 {
		return "arm64"
	}
	return "amd64"
}

// Odd settings are refused with what they should look like.
func TestSettings(t *testing.T) {
	for _, list := range []string{"n1", "n1=", "x=1", "n1=a,n1=b", ",", "n0=a:1"} {
		if _, err := ParseAgents(list); err == nil {
			t.Errorf("%q is read as a list", list)
		}
	}
	got, err := ParseAgents("n1=10.0.0.1:7100, n2=10.0.0.2:7100")
	if err != nil || len(got) != 2 || got[2] != "10.0.0.2:7100" {
		t.Errorf("%v %v", got, err)
	}
	for _, subnet := range []string{"10.1.2.0", "10.1.2.0/16", "10.1.2.3/24", "8.8.8.0/24", "fd00::/24", "x"} {
		_, err := parseSubnet(subnet)
		says(t, subnet, err, "10.77.3.0/24")
	}
	key := filepath.Join(t.TempDir(), "key")
	for name, c := range map[string]Config{
		"too few":     {Agents: map[nodes.ID]string{1: "127.0.0.1:1"}, KeyFile: key},
		"a name":      {Agents: map[nodes.ID]string{1: "host:1", 2: "host:2", 3: "host:3"}, KeyFile: key},
		"no key file": {Agents: map[nodes.ID]string{1: "127.0.0.1:1", 2: "127.0.0.1:2", 3: "127.0.0.1:3"}},
		"no such folder": {Agents: map[nodes.ID]string{1: "127.0.0.1:1", 2: "127.0.0.1:2", 3: "127.0.0.1:3"},
			KeyFile: filepath.Join(key, "nowhere")},
	} {
		if _, err := New("", c).Launch(t.Context(), nodestest.Talker{}, nodestest.ProviderOptions(t.TempDir(), "")); err == nil {
			t.Errorf("%s: launched", name)
		}
	}
}

// Every run has a key of its own, which nobody can know before.
func TestKeys(t *testing.T) {
	p := New("", Config{KeyFile: filepath.Join(t.TempDir(), "key")})
	met := map[string]bool{"": true, strings.Repeat("00", keyBytes): true}
	for range 3 {
		key, err := p.makeKey()
		b, read := os.ReadFile(p.config.KeyFile)
		if err != nil || read != nil || met[key] || len(key) != 2*keyBytes || strings.TrimSpace(string(b)) != key {
			t.Errorf("the key %q, %v; the file has %q, %v", key, err, b, read)
		}
		met[key] = true
	}
}

// A subnet that is in use is said to be, with the remedy.
func TestSubnetTaken(t *testing.T) {
	t.Parallel()
	p := needEngine(t)
	e := testEngine(t)
	s := &set{e: e, project: "taken-" + fresh()}
	s.labels = map[string]string{labelRun: t.Name(), labelOwner: self().String(), labelProject: s.project}
	if err := s.findNetwork(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.remove(t.Context())
	o := nodestest.ProviderOptions(t.TempDir(), "")
	for _, q := range []*Provider{New(p.program, Config{Image: testImage, Subnet: s.prefix.String()}),
		New(p.program, Config{Image: testImage, Project: s.project})} {
		want := []string{"already", "--project"}
		if q.config.Subnet != "" {
			want = []string{"is taken", "--subnet"}
		}
		_, err := q.Launch(t.Context(), nodestest.Talker{}, o)
		says(t, "launch", err, want...)
		says(t, "before", q.Refuse(t.Context(), nodestest.Talker{}, o), want...)
	}
	if left := ofRun(t, e, o.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// An image of the same name that is not ours to replace silently.
func TestImages(t *testing.T) {
	t.Parallel()
	p := needEngine(t)
	image := strings.Replace(testImage, ":", "-images:", 1) // others need theirs meanwhile
	p = New(p.program, Config{Image: image})
	extra := filepath.Join(t.TempDir(), "extra")
	b, err := os.ReadFile(p.program)
	if err == nil {
		err = os.WriteFile(extra, append(b, "more"...), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	first, err := BuildImage(t.Context(), image, p.program, []string{extra})
	if err != nil || !first.Built || len(first.With) != 1 || first.With[0] != "extra" {
		t.Fatalf("%+v %v", first, err)
	}
	again, err := BuildImage(t.Context(), image, p.program, nil)
	if err != nil || again.Built || again.ID != first.ID {
		t.Errorf("equal programs, another image: %+v %v", again, err)
	}
	_, err = BuildImage(t.Context(), image, extra, nil)
	says(t, "another program, where one is beside it", err, "extra", "chaos image --image "+image+" --with")
	_, err = BuildImage(t.Context(), image, p.program, []string{"/etc/hostname"})
	says(t, "a text beside it", err, "--with /etc/hostname")
	if unfit := (UnfitError{}); !errors.As(err, &unfit) || unfit.File != "/etc/hostname" {
		t.Errorf("it is not said to be the file's fault: %v", err)
	}
	says(t, "a system that is not in the image", p.Refuse(t.Context(), nodes.Etcd(""), nodestest.ProviderOptions("", "")),
		"holds no etcd", "chaos image --image "+image+" --with")
	says(t, "one that is not in the usual image", New("", Config{Image: "chaos"}).holds(nil, nodes.Exec{Path: "/bin/etcd"}), "it, chaos image --with")
	free := New(p.program, Config{Image: image, Subnet: freeNet(t, testEngine(t)) + ".0/24"})
	if err := free.Refuse(t.Context(), nodestest.Talker{}, nodestest.ProviderOptions("", "")); err != nil {
		t.Errorf("what can be launched is refused: %v", err)
	}
	if left := ofRun(t, testEngine(t), "a trial"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := removeImage(image); err != nil {
		t.Error(err)
	}
}

// The stream takes one process's output out of the engine's frames, whatever
// their cut, and ends with nonsense.
func TestStream(t *testing.T) {
	frame := func(kind byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, uint32(len(s))), s...)
	}
	var in []byte
	for _, f := range [][]byte{frame(1, "hello "), frame(2, "oh "), frame(1, ""), frame(2, "no\nmore\n"), frame(1, "world")} {
		in = append(in, f...)
	}
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(in), "one by one": iotest.OneByteReader(bytes.NewReader(in))} {
		var lines []string
		s := &stream{in: r, log: func(l string) { lines = append(lines, l) }}
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "hello world" || strings.Join(lines, "|") != "oh no|more" {
			t.Errorf("%s: %q %v, lines %q", name, got, err, lines)
		}
	}
	for name, bad := range map[string][]byte{"an unknown kind": frame(9, "x"), "too long": {1, 0, 0, 0, 255, 255, 255, 255}} {
		s := &stream{in: bytes.NewReader(bad), log: func(string) {}}
		if _, err := io.ReadAll(s); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An owner is told from another one, here and elsewhere.
func TestOwner(t *testing.T) {
	me := self()
	if got := parseOwner(me.String()); got != me || !got.here() || !got.lives() {
		t.Errorf("%v is read as %v", me, got)
	}
	if o := (owner{thisMachine(), "1@0"}); !o.here() || o.lives() {
		t.Errorf("%v lives", o)
	}
	if o := parseOwner("elsewhere/boot/pid:[1]/5@6"); o.here() || o.process != "5@6" {
		t.Errorf("%v is here", o)
	}
	running, exited := Leftover{Kind: kindContainer, project: "p", owner: owner{"elsewhere", "5@6"}, state: "running"},
		Leftover{Kind: kindContainer, project: "p", owner: owner{"elsewhere", "5@6"}, state: "exited"}
	if got := orphans([]Leftover{running, exited}); len(got) > 0 {
		t.Errorf("of a harness elsewhere that lives: %v", got)
	}
	here, gone := exited, exited
	here.owner, gone.owner = me, owner{thisMachine(), "1@0"}
	for _, all := range [][]Leftover{{here, gone}, {gone, here}} {
		if got := orphans(all); len(got) > 0 {
			t.Errorf("of a project with a live harness: %v", got)
		}
	}
	if got := orphans([]Leftover{exited, exited}); len(got) != 2 {
		t.Errorf("of a harness elsewhere that has ended: %v", got)
	}
}

// The compose file at the top is the one that bundles are made of.
func TestCompose(t *testing.T) {
	b, err := os.ReadFile("../../docker-compose.yml")
	if err != nil || string(b) != Compose {
		t.Errorf("docker-compose.yml and nodes/docker/compose.yml differ: %v", err)
	}
	if list := strings.Join(dropped, ", "); !strings.Contains(Compose, list) {
		t.Errorf("the compose file does not drop %s", list)
	}
	if strings.Count(Compose, "pull_policy: never") != 2 {
		t.Error("what others offer by the name of our image could be run")
	}
	got, err := BundleCompose("chaos-repro:x")
	if err != nil || strings.Count(got, "build: .") != 1 || strings.Contains(got, DefaultImage) || strings.Contains(got, "CHAOS_IMAGE") || strings.Count(got, "chaos-repro:x") != 2 {
		t.Errorf("%v\n%s", err, got)
	}
}
