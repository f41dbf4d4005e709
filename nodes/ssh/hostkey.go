package ssh

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// A doorkeeper decides whether a server is the one that it should be, by the
// files that ssh itself uses. It never takes an unknown key and never writes.
type doorkeeper struct {
	to    target
	check ssh.HostKeyCallback
	files map[string]knownFile // by the name that the library was given
	why   error                // of the last refusal, in words for people
}

// A knownFile is one file of known hosts.
type knownFile struct {
	name  string
	lines [][]byte
}

func newDoorkeeper(t target) (*doorkeeper, error) {
	d := &doorkeeper{to: t, files: map[string]knownFile{}}
	var names []string
	for _, name := range t.knownHosts {
		b, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ssh: the known hosts: %w", err)
		}
		f := knownFile{name, bytes.Split(b, []byte{'\n'})}
		given, err := f.understood()
		if err != nil {
			return nil, err
		}
		if given != name {
			defer os.Remove(given) // the library reads it now
		}
		d.files[given] = f
		names = append(names, given)
	}
	check, err := knownhosts.New(names...)
	if err != nil {
		return nil, fmt.Errorf("ssh: the known hosts: %w", err)
	}
	d.check = check
	return d, nil
}

// understood names a file that holds only lines which the library understands:
// as ssh does, others are skipped, but for keys that are declared revoked.
func (f knownFile) understood() (string, error) {
	var odd int
	copied := slices.Clone(f.lines)
	for i, line := range f.lines {
		text := bytes.TrimSpace(line)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		if _, _, _, _, _, err := ssh.ParseKnownHosts(text); err != nil {
			if bytes.HasPrefix(text, []byte("@revoked")) {
				return "", fmt.Errorf("ssh: %s:%d: %w: so the key that is revoked there can't be told from others", f.name, i+1, err)
			}
			odd++
			copied[i] = nil
		}
	}
	if odd == 0 {
		return f.name, nil
	}
	out, err := os.CreateTemp("", "chaos-known-hosts-")
	if err != nil {
		return "", fmt.Errorf("ssh: a copy of %s without its %d odd lines: %w", f.name, odd, err)
	}
	_, err = out.Write(bytes.Join(copied, []byte{'\n'}))
	if err := errors.Join(err, out.Close()); err != nil {
		os.Remove(out.Name())
		return "", fmt.Errorf("ssh: a copy of %s without its %d odd lines: %w", f.name, odd, err)
	}
	return out.Name(), nil
}

// where says in which line of which file a key stands.
func (d *doorkeeper) where(k knownhosts.KnownKey) string {
	return fmt.Sprintf("%s:%d", d.files[k.Filename].name, k.Line)
}

// algorithms lists the kinds of host keys to ask the server for: those that are
// known of it, since another one would look like a changed key. nil: any.
func (d *doorkeeper) algorithms() []string {
	nobody := make([]byte, ed25519.PublicKeySize)
	key, err := ssh.NewPublicKey(ed25519.PublicKey(nobody))
	if err != nil {
		return nil
	}
	var unknown *knownhosts.KeyError
	if !errors.As(d.check(d.to.addr(), &net.TCPAddr{}, key), &unknown) {
		return nil
	}
	var certified, plain []string
	for _, k := range unknown.Want {
		if d.isAuthority(k) {
			certified = certificates
			continue
		}
		for _, a := range algorithmsOf(k.Key.Type()) {
			if !slices.Contains(plain, a) {
				plain = append(plain, a)
			}
		}
	}
	return append(slices.Clone(certified), plain...)
}

// certificates are the kinds of host certificates, the preferred first.
var certificates = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

func algorithmsOf(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// isAuthority reads whether a line of known hosts speaks of an authority, which
// the library does not tell.
func (d *doorkeeper) isAuthority(k knownhosts.KnownKey) bool {
	lines := d.files[k.Filename].lines
	return k.Line >= 1 && k.Line <= len(lines) && bytes.HasPrefix(bytes.TrimSpace(lines[k.Line-1]), []byte("@cert-authority"))
}

// admit is the callback of a handshake.
func (d *doorkeeper) admit(host string, remote net.Addr, key ssh.PublicKey) error {
	err := d.check(host, remote, key)
	if err != nil {
		d.why = d.explain(err, key)
		return d.why
	}
	return nil
}

// explain says what to do about a key that is not taken.
func (d *doorkeeper) explain(err error, key ssh.PublicKey) error {
	var unknown *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	if cert, ok := key.(*ssh.Certificate); ok {
		return d.explainCertificate(err, cert)
	}
	switch {
	case errors.As(err, &revoked):
		return fmt.Errorf("ssh: %s shows a key that %s declares revoked: %s %s. Do not go on before its owner has explained it",
			d.to.addr(), d.where(revoked.Revoked), key.Type(), ssh.FingerprintSHA256(key))
	case !errors.As(err, &unknown):
		return fmt.Errorf("ssh: the host key of %s: %w", d.to.addr(), err)
	case len(unknown.Want) == 0:
		return fmt.Errorf("ssh: the host key of %s is unknown. Its fingerprint is\n  %s %s\nIf its owner confirms that, add this line to %s:\n  %s",
			d.to.addr(), key.Type(), ssh.FingerprintSHA256(key), d.firstFile(), knownhosts.Line([]string{d.to.addr()}, key))
	}
	var known []string
	for _, k := range unknown.Want {
		what := k.Key.Type()
		if d.isAuthority(k) {
			what = "certificates by " + what
		}
		known = append(known, fmt.Sprintf("  known  %s %s (%s)", what, ssh.FingerprintSHA256(k.Key), d.where(k)))
	}
	return fmt.Errorf("ssh: the host key of %s has CHANGED:\n%s\n  shown  %s %s\nSomebody may be between you and the host. If its owner confirms the new key, put this line in the place of the old one:\n  %s",
		d.to.addr(), strings.Join(known, "\n"), key.Type(), ssh.FingerprintSHA256(key), knownhosts.Line([]string{d.to.addr()}, key))
}

func (d *doorkeeper) explainCertificate(err error, c *ssh.Certificate) error {
	until := "for ever"
	if c.ValidBefore != ssh.CertTimeInfinity {
		until = "until " + time.Unix(int64(c.ValidBefore), 0).UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("ssh: the host certificate of %s is not taken: %w\n  signed by  %s %s\n  for        %s\n  valid      %s\nremedy: a line in %s that trusts the signer:\n  @cert-authority %s %s",
		d.to.addr(), err, c.SignatureKey.Type(), ssh.FingerprintSHA256(c.SignatureKey), strings.Join(c.ValidPrincipals, ", "), until,
		d.firstFile(), knownhosts.Normalize(d.to.addr()), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(c.SignatureKey))))
}

func (d *doorkeeper) firstFile() string {
	if len(d.to.knownHosts) == 0 {
		return "known_hosts (UserKnownHostsFile is none)"
	}
	return d.to.knownHosts[0]
}
