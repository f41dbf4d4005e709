package ssh

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func drawSigner(t *testing.T, kind string) ssh.Signer {
	t.Helper()
	var private any
	var err error
	switch kind {
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ecdsa":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, private, err = ed25519.GenerateKey(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// certificate is one of a host's key by an authority.
func certificate(t *testing.T, key ssh.PublicKey, by ssh.Signer, name string, until time.Time) *ssh.Certificate {
	t.Helper()
	c := &ssh.Certificate{
		Key: key, CertType: ssh.HostCert, ValidPrincipals: []string{name}, Serial: 7,
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(until.Unix()),
	}
	if err := c.SignCert(rand.Reader, by); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHostKeys(t *testing.T) {
	key, other, authority := drawSigner(t, "ed25519").PublicKey(), drawSigner(t, "ed25519").PublicKey(), drawSigner(t, "ecdsa")
	soon := time.Now().Add(time.Hour)
	ca := string(ssh.MarshalAuthorizedKey(authority.PublicKey()))
	line := func(host string, k ssh.PublicKey) string { return knownhosts.Line([]string{host}, k) }
	const old = "elsewhere ssh-dss AAAAB3NzaC1kc3MAAAABAAAAAQA=\n"
	for _, test := range []struct {
		name, known string
		shown       ssh.PublicKey
		want        []string // parts of the error; none: it is taken
		asked       []string // of these algorithms; nil: any
	}{
		{"known", line("h.example:22", key), key, nil, []string{ssh.KeyAlgoED25519}},
		{"hashed", line(knownhosts.HashHostname("h.example"), key), key, nil, []string{ssh.KeyAlgoED25519}},
		{"several", line("h.example", other) + "\n" + line("h.example", key), key, nil, []string{ssh.KeyAlgoED25519}},
		{"pattern", line("*.example", key), key, nil, []string{ssh.KeyAlgoED25519}},
		{"another kind", line("h.example", drawSigner(t, "rsa").PublicKey()), key, []string{"CHANGED"}, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}},
		{"nothing", "", key, []string{"unknown", ssh.FingerprintSHA256(key), "add this line", line("h.example", key), "known_hosts"}, nil},
		{"another host", line("g.example", key), key, []string{"unknown"}, nil},
		{"another port", line("[h.example]:2222", key), key, []string{"unknown"}, nil},
		{"changed", "# c\n" + line("h.example", other), key, []string{"CHANGED", ssh.FingerprintSHA256(key), ssh.FingerprintSHA256(other), "known_hosts:2"}, []string{ssh.KeyAlgoED25519}},
		{"changed, hashed", line(knownhosts.HashHostname("h.example"), other), key, []string{"CHANGED"}, []string{ssh.KeyAlgoED25519}},
		{"revoked", line("h.example", key) + "\n@revoked * " + string(ssh.MarshalAuthorizedKey(key)), key, []string{"known_hosts:2", "revoked"}, nil},
		{"old lines", old + line("h.example", other), key, []string{"CHANGED", "known_hosts:2"}, []string{ssh.KeyAlgoED25519}},
		{"old lines, known", old + line("h.example", key), key, nil, []string{ssh.KeyAlgoED25519}},
		{"certificate", "@cert-authority *.example " + ca, certificate(t, key, authority, "h.example", soon), nil, certificates},
		{"certificate of another host", "@cert-authority *.example " + ca, certificate(t, key, authority, "g.example", soon), []string{"certificate", "g.example"}, certificates},
		{"certificate that ended", "@cert-authority * " + ca, certificate(t, key, authority, "h.example", time.Now().Add(-time.Minute)), []string{"certificate", "expired"}, certificates},
		{"certificate by a stranger", "@cert-authority *.example " + ca, certificate(t, key, drawSigner(t, "ecdsa"), "h.example", soon), []string{"certificate", "signer:\n  @cert-authority h.example "}, certificates},
		{"certificate revoked", "@cert-authority * " + ca + "@revoked * " + string(ssh.MarshalAuthorizedKey(key)), certificate(t, key, authority, "h.example", soon), []string{"revoked"}, certificates},
		{"authority revoked", "@cert-authority * " + ca + "@revoked * " + ca, certificate(t, key, authority, "h.example", soon), []string{"revoked"}, certificates},
		{"plain key where a certificate is due", "@cert-authority * " + ca, key, []string{"CHANGED", "certificates by"}, certificates},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "known_hosts")
			if err := os.WriteFile(file, []byte(test.known), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := newDoorkeeper(target{host: "h.example", port: 22, knownHosts: []string{file, file + "2"}})
			if err != nil {
				t.Fatal(err)
			}
			if got := d.algorithms(); !slices.Equal(got, test.asked) && test.name != "revoked" {
				t.Errorf("asks for %v, want %v", got, test.asked)
			}
			err = d.admit("h.example:22", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 22}, test.shown)
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("taken: %v", err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
		})
	}
}

// A line that would revoke a key, and is not understood, can't be skipped.
func TestOddRevocation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known_hosts")
	for _, line := range []string{"\n@revoked * ssh-odd AAAA\n", "\n \t@revoked * ssh-odd AAAA\n"} {
		if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := newDoorkeeper(target{knownHosts: []string{file}}); err == nil || !strings.Contains(err.Error(), "known_hosts:2") {
			t.Errorf("%q is taken: %v", line, err)
		}
	}
}

// A file of known hosts that is there and can't be read may hold a key that is
// revoked, so it is no empty one; only one that is not there is.
func TestUnreadableKnownHosts(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, odd := range []string{dir, filepath.Join(file, "known_hosts")} {
		_, err := newDoorkeeper(target{knownHosts: []string{file, odd}})
		if err == nil || !strings.Contains(err.Error(), "known hosts") || !strings.Contains(err.Error(), odd) {
			t.Errorf("%s is taken: %v", odd, err)
		}
	}
	if _, err := newDoorkeeper(target{knownHosts: []string{filepath.Join(dir, "none"), file}}); err != nil {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What a second file says of keys counts as much as what the first says: a key
// that the machine's own file declares revoked is not taken although the
// person's still knows it, and one that stands there alone is known.
func TestEveryKnownHostsFileCounts(t *testing.T) {
	key, other := drawSigner(t, "ed25519").PublicKey(), drawSigner(t, "ed25519").PublicKey()
	known := func(k ssh.PublicKey) string { return knownhosts.Line([]string{"h.example"}, k) + "\n" }
	for _, test := range []struct {
		name, first, second string
		want                string // in the error; "": it is taken
	}{
		{"revoked in the second", known(key), "@revoked * " + string(ssh.MarshalAuthorizedKey(key)), "known_hosts2:1 declares revoked"},
		{"known in the second alone", "# nobody\n", known(key), ""},
		{"another one in the second", "# nobody\n", known(other), "CHANGED"},
		{"odd lines before", "elsewhere ssh-dss AAAAB3NzaC1kc3MAAAABAAAAAQA=\n" + known(key), "@revoked * " + string(ssh.MarshalAuthorizedKey(key)), "revoked"},
	} {
		first := filepath.Join(t.TempDir(), "known_hosts")
		for name, text := range map[string]string{first: test.first, first + "2": test.second} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := newDoorkeeper(target{host: "h.example", port: 22, knownHosts: []string{first, first + "2"}})
		if err != nil {
			t.Fatal(err)
		}
		err = d.admit("h.example:22", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 22}, key)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}
