package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
)

const (
	pingWait   = 10 * time.Second // for an engine to answer at all
	engineWait = 60 * time.Second // for one slow thing that an engine does
)

// An engine is a connection to the daemon that runs containers.
type engine struct {
	*client.Client
	at endpoint
}

// connect finds the engine that the docker command would use, and greets it.
func connect(ctx context.Context) (*engine, error) {
	at, err := findEndpoint(os.Getenv)
	if err != nil {
		return nil, err
	}
	o := []client.Opt{client.WithHost(at.host), client.WithAPIVersionFromEnv()}
	if at.tls != "" {
		o = append(o, client.WithTLSClientConfig(at.certificate("ca.pem"), at.certificate("cert.pem"), at.certificate("key.pem")))
	}
	c, err := client.New(o...)
	if err != nil {
		return nil, fmt.Errorf("docker: %s: %w", at.from, err)
	}
	bounded, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	p, err := c.Ping(bounded, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		c.Close()
		if ctx.Err() != nil { // tells nothing of the engine
			return nil, fmt.Errorf("docker: %w", ctx.Err())
		}
		return nil, noEngine(at, err)
	}
	if p.OSType != "" && p.OSType != "linux" {
		c.Close()
		return nil, fmt.Errorf("docker: the engine at %s runs containers of %s: switch it to Linux containers", at.host, p.OSType)
	}
	return &engine{c, at}, nil
}

// noEngine says why there is none, and the remedy.
func noEngine(at endpoint, err error) error {
	remedy := "start it (systemctl start docker, or Docker Desktop), or point DOCKER_HOST or a docker context at one that runs"
	var number syscall.Errno // says as much as the client's sentences do
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("nothing answers within %s", pingWait)
	case errors.As(err, &number):
		err = number
	case strings.HasPrefix(err.Error(), "permission denied"):
		err = os.ErrPermission
	case strings.HasPrefix(err.Error(), "Cannot connect"):
		err = errors.New("nothing answers there")
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		remedy = "join the group that owns the socket (usermod -aG docker USER, then log in anew), use a rootless engine, or run as root"
	case strings.Contains(err.Error(), "client version"), strings.Contains(err.Error(), "API version"):
		remedy = "update the engine; 20.10 and later will do"
	}
	return fmt.Errorf("docker: no engine at %s (%s): %w: %s", at.host, at.from, err, remedy)
}

// info asks the engine about itself.
func (e *engine) info(ctx context.Context) (system.Info, error) {
	r, err := e.Info(ctx, client.InfoOptions{})
	if err != nil {
		return r.Info, fmt.Errorf("docker: asking the engine about itself: %w", err)
	}
	return r.Info, nil
}

// absent tells that an error says "no such thing".
func absent(err error) bool { return errdefs.IsNotFound(err) }

// gone is err, unless it says that the thing is gone or about to be.
func gone(err error) error {
	if err == nil || absent(err) || errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		return nil
	}
	return err
}
