package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"
)

const (
	agentWait   = 10 * time.Second // for the SSH agent to answer
	secretTries = 3                // of a passphrase
	keyFileMax  = 1 << 20          // bytes
)

// A keyring opens private keys, and asks for each passphrase at most once.
type keyring struct {
	ask func(ctx context.Context, prompt string) ([]byte, error) // nil: the terminal
	mu  sync.Mutex
	met map[string]opened // by path
}

type opened struct {
	signer ssh.Signer
	err    error
}

// A login is what may be shown to one server. Close it when logged in.
type login struct {
	signers []ssh.Signer
	tried   []string // in words
	conn    net.Conn // to the SSH agent; nil: none
}

func (l *login) close() {
	if l.conn != nil {
		l.conn.Close()
	}
}

// methods shows all keys in one go: a server counts every method that fails.
func (l *login) methods() []ssh.AuthMethod {
	return []ssh.AuthMethod{ssh.PublicKeys(l.signers...)}
}

// login gathers the keys for one server: named files first, then what the SSH
// agent holds.
func (k *keyring) login(ctx context.Context, t target) (*login, error) {
	l := &login{}
	held, err := l.askAgent(t)
	if err != nil {
		return nil, err
	}
	var locked []keyFile
	for _, f := range t.keys {
		signer, public, err := k.open(f.path)
		switch {
		case err == nil:
			l.signers = append(l.signers, signer)
			l.tried = append(l.tried, f.path)
		case errors.Is(err, os.ErrNotExist) && !f.must:
		case errors.Is(err, errLocked) && holds(held, public):
		case errors.Is(err, errLocked) && !f.must:
			locked = append(locked, f)
		case errors.Is(err, errLocked):
			if signer, err = k.unlock(ctx, f.path); err != nil {
				l.close()
				return nil, err
			}
			l.signers = append(l.signers, signer)
			l.tried = append(l.tried, f.path)
		default:
			l.close()
			return nil, fmt.Errorf("ssh: the key for %s: %w; remedy: name the right file by key: in the hosts file", t, err)
		}
	}
	l.signers = append(l.signers, held...)
	if len(held) > 0 {
		l.tried = append(l.tried, fmt.Sprintf("%d keys of the SSH agent", len(held)))
	}
	return l, k.lastResort(ctx, l, t, locked)
}

// lastResort asks for passphrases of keys that nobody named, where there is
// nothing else to show.
func (k *keyring) lastResort(ctx context.Context, l *login, t target, locked []keyFile) error {
	if len(l.signers) > 0 {
		return nil
	}
	for _, f := range locked {
		signer, err := k.unlock(ctx, f.path)
		if err != nil {
			l.close()
			return err
		}
		l.signers = append(l.signers, signer)
		l.tried = append(l.tried, f.path)
	}
	if len(l.signers) > 0 {
		return nil
	}
	var names []string
	for _, f := range t.keys {
		names = append(names, f.path)
	}
	l.close()
	return fmt.Errorf("ssh: there is no key to show to %s: none of %s is there, and no SSH agent holds one; remedy: key: in the hosts file, or ssh-add",
		t, strings.Join(names, ", "))
}

// askAgent lists what the SSH agent holds. That there is none is an error only
// where one is asked for.
func (l *login) askAgent(t target) ([]ssh.Signer, error) {
	if t.agent != nil && !*t.agent {
		return nil, nil
	}
	path := os.Getenv("SSH_AUTH_SOCK")
	must := t.agent != nil
	if path == "" {
		if must {
			return nil, fmt.Errorf("ssh: %s wants keys of the SSH agent, and SSH_AUTH_SOCK is not set; remedy: start one with ssh-agent, and ssh-add", t.alias)
		}
		return nil, nil
	}
	conn, err := net.DialTimeout("unix", path, agentWait)
	var held []ssh.Signer
	if err == nil {
		l.conn = conn
		conn.SetDeadline(time.Now().Add(agentWait))
		held, err = agent.NewClient(conn).Signers()
		conn.SetDeadline(time.Time{}) // a person may have to confirm each use of a key
	}
	if err != nil && must {
		l.close()
		return nil, fmt.Errorf("ssh: asking the SSH agent at %s: %w", path, err)
	}
	if must && len(held) == 0 {
		l.close()
		return nil, fmt.Errorf("ssh: %s wants keys of the SSH agent, and it holds none; remedy: ssh-add", t.alias)
	}
	return held, nil
}

func holds(held []ssh.Signer, key ssh.PublicKey) bool {
	for _, s := range held {
		if key != nil && bytes.Equal(s.PublicKey().Marshal(), key.Marshal()) {
			return true
		}
	}
	return false
}

// errLocked says that a key needs a passphrase.
var errLocked = errors.New("the key is encrypted")

// open reads a key that needs no passphrase, or whose was given before. Of a
// locked one it returns the public half, where the file tells it.
func (k *keyring) open(path string) (ssh.Signer, ssh.PublicKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if o, ok := k.met[path]; ok && o.err == nil {
		return o.signer, nil, nil
	}
	b, err := readKeyFile(path)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.ParsePrivateKey(b)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		return nil, missing.PublicKey, fmt.Errorf("%s: %w", path, errLocked)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil, nil
}

func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > keyFileMax || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no key", path)
	}
	return os.ReadFile(path)
}

// unlock asks for a key's passphrase. The answer, or that there was none, counts
// for every host.
func (k *keyring) unlock(ctx context.Context, path string) (ssh.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if o, ok := k.met[path]; ok {
		return o.signer, o.err
	}
	o := opened{}
	o.signer, o.err = k.askFor(ctx, path)
	if k.met == nil {
		k.met = map[string]opened{}
	}
	k.met[path] = o
	return o.signer, o.err
}

func (k *keyring) askFor(ctx context.Context, path string) (ssh.Signer, error) {
	b, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("ssh: %w", err)
	}
	ask := k.ask
	if ask == nil {
		ask = askTerminal
	}
	prompt := "passphrase of " + path + ": "
	for range secretTries {
		secret, err := ask(ctx, prompt)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ssh: the passphrase of %s: %w", path, ctx.Err())
		}
		if err != nil {
			return nil, fmt.Errorf("ssh: the key %s is encrypted, and its passphrase can't be asked for: %w; remedy: ssh-add %s, run chaos on a terminal, or use a key without a passphrase", path, err, path)
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(b, secret)
		clear(secret)
		if err == nil {
			return signer, nil
		}
		prompt = "that does not open it; passphrase of " + path + ": "
	}
	return nil, fmt.Errorf("ssh: no passphrase opened the key %s in %d tries", path, secretTries)
}

// askTerminal asks where the person sits, whatever became of standard input. When
// ctx ends before the answer the terminal is left as it was; who still reads there
// ends with the process.
func askTerminal(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("there is no terminal")
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		tty.Close()
		return nil, err
	}
	fmt.Fprint(tty, prompt)
	type answer struct {
		secret []byte
		err    error
	}
	got := make(chan answer, 1)
	go func() {
		defer tty.Close()
		defer fmt.Fprintln(tty)
		secret, err := term.ReadPassword(fd)
		got <- answer{secret, err}
	}()
	select {
	case a := <-got:
		return a.secret, a.err
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}
