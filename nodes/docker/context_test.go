package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// aConfig is a folder as the docker command keeps one, with a current context
// and contexts by name.
func aConfig(t *testing.T, current string, hosts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"), `{"auths":{},"currentContext":"`+current+`"}`)
	for name, host := range hosts {
		sum := sha256.Sum256([]byte(name))
		write(t, filepath.Join(dir, "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json"),
			`{"Name":"`+name+`","Metadata":{},"Endpoints":{"docker":{"Host":"`+host+`","SkipTLSVerify":false}}}`)
	}
	return dir
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// The engine is found as the docker command finds it.
func TestEndpoint(t *testing.T) {
	config := aConfig(t, "desktop", map[string]string{
		"desktop": "unix:///home/me/.docker/desktop/docker.sock", "far": "tcp://10.0.0.9:2376",
		"secret": "ssh://me@far", "empty": "", "odd": "carrier-pigeon",
	})
	broken := t.TempDir()
	write(t, filepath.Join(broken, "config.json"), "{")
	for name, test := range map[string]struct {
		env        map[string]string
		host, from string
		wrong      string // in the error
	}{
		"nothing said":          {map[string]string{"DOCKER_CONFIG": t.TempDir()}, "unix:///var/run/docker.sock", "default", ""},
		"current context":       {map[string]string{"DOCKER_CONFIG": config}, "unix:///home/me/.docker/desktop/docker.sock", "context desktop", ""},
		"another context":       {map[string]string{"DOCKER_CONFIG": config, "DOCKER_CONTEXT": "far"}, "tcp://10.0.0.9:2376", "context far", ""},
		"the default, by name":  {map[string]string{"DOCKER_CONFIG": config, "DOCKER_CONTEXT": "default"}, "unix:///var/run/docker.sock", "default", ""},
		"a host before context": {map[string]string{"DOCKER_CONFIG": config, "DOCKER_HOST": "tcp://127.0.0.1:1"}, "tcp://127.0.0.1:1", "DOCKER_HOST", ""},
		"ssh in a context":      {map[string]string{"DOCKER_CONFIG": config, "DOCKER_CONTEXT": "secret"}, "", "", "forward its socket"},
		"ssh as host":           {map[string]string{"DOCKER_HOST": "ssh://me@far"}, "", "", "forward its socket"},
		"no such context":       {map[string]string{"DOCKER_CONFIG": config, "DOCKER_CONTEXT": "nowhere"}, "", "", "docker context ls"},
		"a context for nothing": {map[string]string{"DOCKER_CONFIG": config, "DOCKER_CONTEXT": "empty"}, "", "", "no docker endpoint"},
		"a context that is odd": {map[string]string{"DOCKER_CONFIG": config, "DOCKER_CONTEXT": "odd"}, "", "", "carrier-pigeon"},
		"a broken file":         {map[string]string{"DOCKER_CONFIG": broken}, "", "", "config.json"},
	} {
		got, err := findEndpoint(func(k string) string { return test.env[k] })
		switch {
		case test.wrong != "":
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%s: %v, want %q in an error", name, err, test.wrong)
			}
		case err != nil || got.host != test.host || got.from != test.from:
			t.Errorf("%s: %+v %v, want %s from %s", name, got, err, test.host, test.from)
		}
	}
}

// A context's certificates are used.
func TestEndpointCertificates(t *testing.T) {
	config := aConfig(t, "far", map[string]string{"far": "tcp://10.0.0.9:2376"})
	sum := sha256.Sum256([]byte("far"))
	folder := filepath.Join(config, "contexts", "tls", hex.EncodeToString(sum[:]), "docker")
	write(t, filepath.Join(folder, "ca.pem"), "a certificate")
	e, err := findEndpoint(func(k string) string { return map[string]string{"DOCKER_CONFIG": config}[k] })
	if err != nil || e.tls != folder || e.certificate("ca.pem") == "" || e.certificate("key.pem") != "" {
		t.Errorf("%+v %v", e, err)
	}
}
