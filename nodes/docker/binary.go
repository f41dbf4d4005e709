package docker

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// binaryMax is the largest program that goes into an image, bytes.
const binaryMax = 512 << 20

// staticRemedy is how to come by a program that a container can run.
const staticRemedy = "build it with CGO_ENABLED=0 GOOS=linux GOARCH=%s go build -o %s ./cmd/chaos"

// machines are the architectures of programs, by the names that Go gives them.
var machines = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

// architecture translates an engine's word for it, as uname gives it.
func architecture(engine string) string {
	switch engine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return engine
}

// An UnfitError says why a file can't be a program of a container.
type UnfitError struct {
	File string
	Err  error
}

// Error is the reason.
func (e UnfitError) Error() string { return e.Err.Error() }

// Unwrap is the reason.
func (e UnfitError) Unwrap() error { return e.Err }

// FindBinary is the program itself where it is a static one for Linux on arch
// (a name that Go gives it), else NAME-linux-ARCH beside it, else an error with the remedy.
func FindBinary(program, arch string) (string, error) {
	err := checkBinary(program, arch)
	if err == nil {
		return program, nil
	}
	beside := strings.TrimSuffix(program, ".exe") + "-linux-" + arch
	if _, missing := os.Stat(beside); missing != nil {
		return "", UnfitError{program, fmt.Errorf("docker: %s can't be the program of a container: %w; "+staticRemedy+", which is looked for as well",
			program, err, arch, beside)}
	}
	if err := checkBinary(beside, arch); err != nil {
		return "", fmt.Errorf("docker: %s can't be the program of a container: %w; "+staticRemedy, beside, err, arch, beside)
	}
	return beside, nil
}

// checkBinary says why a program would not run in an empty container.
func checkBinary(name, arch string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return errors.New("it is no Linux program")
	}
	if got := machines[e.Machine]; got != arch {
		return fmt.Errorf("it is for %s, the engine's machine is %s", e.Machine, arch)
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is linked dynamically, and an image that holds nothing else has no libraries")
		}
	}
	return nil
}

// A content is one program that goes into an image.
type content struct {
	source string // on this machine
	target string // in the image, without the leading slash
	sum    string // sha256, hex
	size   int64
}

func readContent(source, target string) (c content, err error) {
	f, err := os.Open(source)
	if err != nil {
		return c, fmt.Errorf("docker: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, binaryMax+1))
	if err != nil {
		return c, fmt.Errorf("docker: reading %s: %w", source, err)
	}
	if n > binaryMax {
		return c, fmt.Errorf("docker: %s is larger than %d bytes", source, binaryMax)
	}
	return content{source, target, hex.EncodeToString(h.Sum(nil)), n}, nil
}

// CheckExtra tells why a file can't go into an image beside our program.
func CheckExtra(file, arch string) error {
	if err := checkBinary(file, arch); err != nil {
		return UnfitError{file, fmt.Errorf("docker: --with %s: %w: give a static Linux program", file, err)}
	}
	return nil
}

// extras reads the programs that go into an image beside ours.
func extras(files []string, arch string) (out []content, err error) {
	for _, f := range files {
		if err := CheckExtra(f, arch); err != nil {
			return nil, err
		}
		c, err := readContent(f, "bin/"+filepath.Base(f))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}
