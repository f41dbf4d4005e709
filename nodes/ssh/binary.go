package ssh

import (
	"bufio"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

const buildWait = 5 * time.Minute // for the program to be compiled for another machine

// A binary is a program of this machine that may be brought to others.
type binary struct {
	path string
	sum  string // SHA-256, in hexadecimal
	size int64  // bytes
}

// name is what it is called on a host: two versions never share one.
func (b *binary) name() string { return filepath.Base(b.path) + "-" + b.sum[:32] }

// binaries finds, and reads once, the programs that hosts need.
type binaries struct {
	own  string // path of this program
	mu   sync.Mutex
	met  map[string]*binary // by path
	arch map[string]string  // path of ours by architecture
}

// ours is this program for an architecture: itself, the one that lies beside it,
// or one that is compiled now.
func (bs *binaries) ours(ctx context.Context, arch string) (*binary, error) {
	bs.mu.Lock()
	path, ok := bs.arch[arch]
	bs.mu.Unlock()
	if !ok {
		var err error
		if path, err = bs.find(ctx, arch); err != nil {
			return nil, err
		}
		bs.mu.Lock()
		if bs.arch == nil {
			bs.arch = map[string]string{}
		}
		bs.arch[arch] = path
		bs.mu.Unlock()
	}
	return bs.read(path, arch)
}

func (bs *binaries) find(ctx context.Context, arch string) (string, error) {
	if runtime.GOOS == "linux" && runtime.GOARCH == arch {
		return bs.own, nil
	}
	beside := filepath.Join(filepath.Dir(bs.own), "chaos-linux-"+arch)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := compile(ctx, filepath.Dir(bs.own), arch)
	if err != nil {
		return "", fmt.Errorf("ssh: there is no program for linux/%s: %s is not there, and %w; remedy: GOOS=linux GOARCH=%s CGO_ENABLED=0 go build -o %s ./cmd/chaos",
			arch, beside, err, arch, beside)
	}
	return path, nil
}

// read takes a file's checksum, once, and sees that it is for that architecture.
func (bs *binaries) read(path, arch string) (*binary, error) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	b := bs.met[path]
	if b == nil {
		var err error
		if b, err = sumUp(path); err != nil {
			return nil, fmt.Errorf("ssh: the program to bring to hosts: %w", err)
		}
		if bs.met == nil {
			bs.met = map[string]*binary{}
		}
		bs.met[path] = b
	}
	return b, fits(path, arch)
}

func sumUp(path string) (*binary, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, err
	}
	return &binary{path, hex.EncodeToString(h.Sum(nil)), n}, nil
}

var elfMachines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// fits tells why a program can't run on Linux of that architecture. Scripts run
// anywhere.
func fits(path, arch string) error {
	f, err := elf.Open(path)
	if err != nil {
		if isScript(path) {
			return nil
		}
		return fmt.Errorf("ssh: %s is no program for Linux: %w", path, err)
	}
	defer f.Close()
	if f.Machine != elfMachines[arch] {
		return fmt.Errorf("ssh: %s is a program for %s, and the host is %s", path, f.Machine, arch)
	}
	return nil
}

func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	b, _ := bufio.NewReader(f).Peek(2)
	return string(b) == "#!"
}

// compile makes our program for another architecture, where the Go tool and the
// source are at hand.
func compile(ctx context.Context, near, arch string) (string, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", errors.New("there is no Go tool to make it")
	}
	source := findSource(near)
	if source == "" {
		return "", errors.New("its source is not at hand to make it")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no place to make it: %w", err)
	}
	to := filepath.Join(cache, "chaos", "chaos-linux-"+arch)
	ctx, cancel := context.WithTimeout(ctx, buildWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, "build", "-o", to, "./cmd/chaos")
	cmd.Dir = source
	cmd.Env = append(cmd.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("making it failed: %w: %s", err, short(strings.TrimSpace(string(out))))
	}
	return to, nil
}

// findSource looks for our module in the working folder, beside the program, and
// in the folders above them.
func findSource(near string) string {
	here, err := os.Getwd()
	if err != nil {
		here = near
	}
	for _, dir := range []string{here, near} {
		for ; ; dir = filepath.Dir(dir) {
			if b, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(b), "module chaos\n") {
				return dir
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return ""
}
