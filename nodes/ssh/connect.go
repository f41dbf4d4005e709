package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	connectWait    = 15 * time.Second // for one server to take us in: TCP, handshake, login
	connectsMax    = 8                // at once: sshd refuses more than ten that are not logged in yet
	aliveEvery     = 5 * time.Second  // between two signs of life asked of a server
	aliveWait      = 10 * time.Second // for a sign of life, before the connection is given up
	signWait       = 3 * time.Second  // the same, where a doubt arose
	clientVersion  = "SSH-2.0-chaos"
	tooManyRefused = "unable to authenticate"
)

// A dialer opens connections to servers.
type dialer struct {
	keys *keyring
	room chan struct{} // bounds connections that are being made
}

func newDialer(c Config) *dialer {
	return &dialer{keys: &keyring{ask: c.Ask}, room: make(chan struct{}, connectsMax)}
}

// A connection is a logged-in client of the last server of a way.
type connection struct {
	*ssh.Client
	under []*ssh.Client // those that it runs through, the first one first
	done  chan struct{} // closed when it is lost or closed
	once  sync.Once
	work  sync.WaitGroup
}

// connect logs in to every server of the way, each through the one before.
func (d *dialer) connect(ctx context.Context, way []target) (*connection, error) {
	select {
	case d.room <- struct{}{}:
		defer func() { <-d.room }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c := &connection{done: make(chan struct{})}
	for i, t := range way {
		client, err := d.hop(ctx, c.Client, t)
		if err != nil {
			c.end()
			if i < len(way)-1 {
				err = &errorAt{"on the way there", err}
			}
			return nil, err
		}
		if c.Client != nil {
			c.under = append(c.under, c.Client)
		}
		c.Client = client
	}
	c.work.Go(func() {
		c.Client.Wait()
		c.end()
	})
	c.work.Go(c.keepAlive)
	return c, nil
}

// hop logs in to one server, through another one where there is one.
func (d *dialer) hop(ctx context.Context, through *ssh.Client, t target) (*ssh.Client, error) {
	keeper, err := newDoorkeeper(t)
	if err != nil {
		return nil, err
	}
	l, err := d.keys.login(ctx, t) // a person may think about a passphrase
	if err != nil {
		return nil, err
	}
	defer l.close()
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	conn, err := reach(ctx, through, t)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, t.addr(), &ssh.ClientConfig{
		User: t.user, Auth: l.methods(), ClientVersion: clientVersion,
		HostKeyCallback: keeper.admit, HostKeyAlgorithms: keeper.algorithms(),
	})
	if !stop() && err == nil {
		c.Close()
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, d.explain(ctx, err, keeper, l)
	}
	return ssh.NewClient(c, channels, requests), nil
}

// reach opens the connection below SSH.
func reach(ctx context.Context, through *ssh.Client, t target) (conn net.Conn, err error) {
	if through != nil {
		conn, err = through.DialContext(ctx, "tcp", t.addr())
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", t.addr())
	}
	if err != nil {
		return nil, fmt.Errorf("ssh: %s can't be reached: %w; remedy: check address, port and jump host in the hosts file, and try: ssh -p %d %s@%s true",
			t.addr(), err, t.port, t.user, t.host)
	}
	return conn, nil
}

// explain puts the remedy beside what went wrong.
func (d *dialer) explain(ctx context.Context, err error, k *doorkeeper, l *login) error {
	switch {
	case k.why != nil:
		return k.why
	case ctx.Err() != nil:
		return fmt.Errorf("ssh: %s did not take us in within %s: %w", k.to.addr(), connectWait, ctx.Err())
	case isRefused(err):
		return fmt.Errorf("ssh: %s refuses the keys of %s (tried: %s); remedy: name the right key: or user: in the hosts file, or put its public half into ~/.ssh/authorized_keys there",
			k.to.addr(), k.to.user, join(l.tried))
	}
	return fmt.Errorf("ssh: logging in at %s: %w", k.to.addr(), err)
}

// close ends the connection and waits for what watches it.
func (c *connection) close() {
	c.end()
	c.work.Wait()
}

func (c *connection) end() {
	c.once.Do(func() {
		close(c.done)
		if c.Client != nil {
			c.Client.Close()
		}
		for i := len(c.under) - 1; i >= 0; i-- {
			c.under[i].Close()
		}
	})
}

// alive tells whether nobody has given the connection up yet.
func (c *connection) alive() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// keepAlive asks the server for signs of life and gives it up without one: a
// network that died tells nobody.
func (c *connection) keepAlive() {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.done:
			return
		}
		c.sign(aliveWait)
	}
}

// sign asks for one sign of life, and ends the connection without it.
func (c *connection) sign(wait time.Duration) {
	late := time.AfterFunc(wait, c.end)
	defer late.Stop()
	if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		c.end()
	}
}

var errLost = errors.New("ssh: the connection is lost")
