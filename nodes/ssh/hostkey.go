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
	why   error // of the last refusal, in words for people
}

func newDoorkeeper(t target) (*doorkeeper, error) {
	var files []string
	for _, name := range t.knownHosts {
		if _, err := os.Stat(name); err == nil {
			files = append(files, name)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("ssh: the known hosts: %w", err)
		}
	}
	check, err := knownhosts.New(files...)
	if err != nil {
		return nil, fmt.Errorf("ssh: a line of the known hosts is not understood, so no host can be trusted by that file: %w", err)
	}
	return &doorkeeper{to: t, check: check}, nil
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
		if isAuthority(k) {
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
func isAuthority(k knownhosts.KnownKey) bool {
	b, err := os.ReadFile(k.Filename)
	if err != nil {
		return false
	}
	lines := bytes.Split(b, []byte{'\n'})
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
		return fmt.Errorf("ssh: %s shows a key that %s:%d declares revoked: %s %s. Do not go on before its owner has explained it",
			d.to.addr(), revoked.Revoked.Filename, revoked.Revoked.Line, key.Type(), ssh.FingerprintSHA256(key))
	case !errors.As(err, &unknown):
		return fmt.Errorf("ssh: the host key of %s: %w", d.to.addr(), err)
	case len(unknown.Want) == 0:
		return fmt.Errorf("ssh: the host key of %s is unknown. Its fingerprint is\n  %s %s\nIf its owner confirms that, add this line to %s:\n  %s",
			d.to.addr(), key.Type(), ssh.FingerprintSHA256(key), d.firstFile(), knownhosts.Line([]string{d.to.addr()}, key))
	}
	var known []string
	for _, k := range unknown.Want {
		what := k.Key.Type()
		if isAuthority(k) {
			what = "certificates by " + what
		}
		known = append(known, fmt.Sprintf("  known  %s %s (%s:%d)", what, ssh.FingerprintSHA256(k.Key), k.Filename, k.Line))
	}
	return fmt.Errorf("ssh: the host key of %s has CHANGED:\n%s\n  shown  %s %s\nSomebody may be between you and the host. If its owner confirms the new key, put this line in the place of the old one:\n  %s",
		d.to.addr(), strings.Join(known, "\n"), key.Type(), ssh.FingerprintSHA256(key), knownhosts.Line([]string{d.to.addr()}, key))
}

func (d *doorkeeper) explainCertificate(err error, c *ssh.Certificate) error {
	until := "for ever"
	if c.ValidBefore != ssh.CertTimeInfinity {
		until = "until " + time.Unix(int64(c.ValidBefore), 0).UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("ssh: the host certificate of %s is not taken: %w\n  signed by  %s %s\n  for        %s\n  valid      %s\nremedy: a line in %s that trusts the signer: @cert-authority %s %s",
		d.to.addr(), err, c.SignatureKey.Type(), ssh.FingerprintSHA256(c.SignatureKey), strings.Join(c.ValidPrincipals, ", "), until,
		d.firstFile(), knownhosts.Normalize(d.to.addr()), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(c.SignatureKey))))
}

func (d *doorkeeper) firstFile() string {
	if len(d.to.knownHosts) == 0 {
		return "known_hosts (UserKnownHostsFile is none)"
	}
	return d.to.knownHosts[0]
}
