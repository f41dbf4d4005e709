package docker

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// composeWait bounds one run of a compose project; it is no measurement.
const composeWait = 3 * time.Minute

// aProgram builds the real command, as people do.
func aProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chaos")
	ctx, cancel := context.WithTimeout(t.Context(), buildWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "chaos/cmd/chaos")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// compose runs docker-compose in a folder and returns its exit status.
func compose(t *testing.T, dir string, env []string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), composeWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-compose", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("docker-compose %v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// Nothing but the compose file and the image carries a plan out, exits with the
// verdict's status, and leaves a run's folder; a bundle of that run does so with
// nothing but itself.
func TestComposeUp(t *testing.T) {
	t.Parallel() // it mostly waits
	needEngine(t)
	if _, err := exec.LookPath("docker-compose"); err != nil {
		if required("docker") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	program, dir, image := aProgram(t), filepath.Join(t.TempDir(), "up-"+fresh()), "chaos-test-up-"+fresh()+":latest"
	write(t, filepath.Join(dir, "docker-compose.yml"), Compose)
	if out, err := exec.Command(program, "image", "--image", image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	e := testEngine(t)
	net := freeNet(t, e)
	env := []string{"CHAOS_IMAGE=" + image, "CHAOS_NET=" + net, "CHAOS_RUN=--duration 4s --seed 4 --lease 2s --faults partition,kill --check-timeout 60s"}
	t.Cleanup(func() {
		if code, out := compose(t, dir, env, "down", "-v", "--rmi", "all"); code != 0 {
			t.Errorf("down: %d\n%s", code, out)
		}
	})
	code, out := compose(t, dir, env, "--no-ansi", "up", "--exit-code-from", "control")
	run := filepath.Join(dir, "results", "runs", "latest")
	if status := exitOf(t, run); code != status {
		t.Fatalf("exit %d, the verdict's is %d\n%s", code, status, out)
	}
	if code != 0 && code != 3 { // a busy machine may prove too little
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, name := range []string{"history.jsonl", "report.html", "nodes/n5/log.txt"} {
		if _, err := os.Stat(filepath.Join(run, name)); err != nil {
			t.Error(err)
		}
	}
	compose(t, dir, env, "down", "-v")
	bundled(t, program, run, net, image)
}

// bundled packs a run and carries it out from the bundle, then takes away all that
// the bundle has made, and no other image.
func bundled(t *testing.T, program, run, net, other string) {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "bundle-"+fresh())
	if out, err := exec.Command(program, "repro", run, "--bundle", bundle).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if b, err := os.ReadFile(filepath.Join(bundle, "README.md")); err != nil || strings.Count(string(b), "\n") != 3 || !strings.Contains(string(b), "docker-compose down -v --rmi all ") {
		t.Errorf("README %q, %v", b, err)
	}
	env := []string{"CHAOS_NET=" + net, "CHAOS_IMAGE=" + other}
	t.Cleanup(func() { compose(t, bundle, env, "down", "-v", "--rmi", "all") })
	code, out := compose(t, bundle, env, "--no-ansi", "up", "--build", "--exit-code-from", "control")
	again := filepath.Join(bundle, "results", "latest")
	if status := exitOf(t, again); code != status || code != 0 && code != 3 {
		t.Errorf("exit %d, the verdict's is %d\n%s", code, status, out)
	}
	if a, b := scheduleOf(t, run), scheduleOf(t, again); a != b || a == "" {
		t.Errorf("another schedule: %s, then %s", a, b)
	}
	if code, out := compose(t, bundle, env, "down", "-v", "--rmi", "all"); code != 0 {
		t.Errorf("down: %d\n%s", code, out)
	}
	real, err := filepath.EvalSymlinks(run)
	if err != nil {
		t.Fatal(err)
	}
	e := testEngine(t)
	if _, err := e.ImageInspect(t.Context(), "chaos-repro:"+filepath.Base(real)); !absent(err) {
		t.Errorf("the bundle's image stays: %v", err)
	}
	if _, err := e.ImageInspect(t.Context(), other); err != nil {
		t.Errorf("another image is gone: %v", err)
	}
}

func exitOf(t *testing.T, run string) int {
	t.Helper()
	var v struct{ Exit *int }
	b, err := os.ReadFile(filepath.Join(run, "verdict.json"))
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil || v.Exit == nil {
		t.Fatalf("no verdict: %v %s", err, b)
	}
	return *v.Exit
}

func scheduleOf(t *testing.T, run string) string {
	t.Helper()
	var v struct{ Schedule json.RawMessage }
	b, err := os.ReadFile(filepath.Join(run, "plan.json"))
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(v.Schedule)
}

// freeNet is the first three numbers of a network that is free now.
func freeNet(t *testing.T, e *engine) string {
	t.Helper()
	s := &set{e: e, project: "try-" + fresh()}
	s.labels = map[string]string{labelRun: t.Name(), labelOwner: self().String(), labelProject: s.project}
	if err := s.findNetwork(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(s.prefix.Addr().String(), ".0")
}
