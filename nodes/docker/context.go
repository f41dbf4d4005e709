package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
)

// An endpoint is where an engine answers, and who says so.
type endpoint struct {
	host string // "unix:///var/run/docker.sock"
	from string // "DOCKER_HOST", "context desktop-linux", "default"
	tls  string // the folder with ca.pem, cert.pem and key.pem; "" without
}

// errSSH is for engines that are told by ssh://.
var errSSH = errors.New("an engine behind ssh:// is not spoken to directly: forward its socket, " +
	"ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock USER@HOST, and set DOCKER_HOST=unix:///tmp/docker.sock")

// findEndpoint does as the docker command does: DOCKER_HOST, else the context
// that DOCKER_CONTEXT names, else the current one of the configuration.
func findEndpoint(getenv func(string) string) (endpoint, error) {
	if host := getenv(client.EnvOverrideHost); host != "" {
		return checked(endpoint{host: host, from: client.EnvOverrideHost, tls: tlsFromEnv(getenv)})
	}
	folder := configFolder(getenv)
	name := getenv("DOCKER_CONTEXT")
	if name == "" {
		var err error
		if name, err = currentContext(folder); err != nil {
			return endpoint{}, err
		}
	}
	if name == "" || name == "default" {
		return endpoint{host: client.DefaultDockerHost, from: "default", tls: tlsFromEnv(getenv)}, nil
	}
	e, err := readContext(folder, name)
	if err != nil {
		return e, err
	}
	return checked(e)
}

func checked(e endpoint) (endpoint, error) {
	if strings.HasPrefix(e.host, "ssh://") {
		return e, fmt.Errorf("docker: %s (%s): %w", e.host, e.from, errSSH)
	}
	if _, err := client.ParseHostURL(e.host); err != nil {
		return e, fmt.Errorf("docker: %s: %w: it is like unix:///var/run/docker.sock or tcp://HOST:2375", e.from, err)
	}
	return e, nil
}

func tlsFromEnv(getenv func(string) string) string {
	if getenv(client.EnvTLSVerify) == "" {
		return ""
	}
	return getenv(client.EnvOverrideCertPath)
}

func configFolder(getenv func(string) string) string {
	if f := getenv("DOCKER_CONFIG"); f != "" {
		return f
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// currentContext is "" where nobody chose one.
func currentContext(folder string) (string, error) {
	name := filepath.Join(folder, "config.json")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var c struct {
		CurrentContext string `json:"currentContext"`
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return "", fmt.Errorf("docker: reading the current context from %s: %w: mend the file, or set DOCKER_HOST", name, err)
	}
	return c.CurrentContext, nil
}

// readContext reads where a context's engine answers; its files are filed under
// the checksum of its name.
func readContext(folder, name string) (endpoint, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	file := filepath.Join(folder, "contexts", "meta", id, "meta.json")
	b, err := os.ReadFile(file)
	var m struct {
		Endpoints map[string]struct{ Host string }
	}
	if errors.Is(err, fs.ErrNotExist) {
		return endpoint{}, fmt.Errorf("docker: there is no context %q in %s: docker context ls shows those that are there, DOCKER_CONTEXT or docker context use chooses",
			name, folder)
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return endpoint{}, fmt.Errorf("docker: reading the context %q from %s: %w: docker context ls shows those that are there", name, file, err)
	}
	e := endpoint{host: m.Endpoints["docker"].Host, from: "context " + name}
	if e.host == "" {
		return e, fmt.Errorf("docker: the context %q has no docker endpoint (%s)", name, file)
	}
	if certs := filepath.Join(folder, "contexts", "tls", id, "docker"); isFolder(certs) {
		e.tls = certs
	}
	return e, nil
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// certificate is a file of the endpoint's folder, "" where there is none.
func (e endpoint) certificate(name string) string {
	path := filepath.Join(e.tls, name)
	if _, err := os.Stat(path); e.tls == "" || err != nil {
		return ""
	}
	return path
}

// local tells whether the engine shares this machine's network, as far as its
// address tells.
func (e endpoint) local() bool { return strings.HasPrefix(e.host, "unix://") }
