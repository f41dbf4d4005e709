package ssh

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"
)

const (
	uploadWait = 5 * time.Minute // for one program to get to one host
	roomBeside = 64 << 20        // bytes that must stay free beside a program
	agedDays   = "14"            // after which a program that nobody used is removed
)

// placeScript checks what was uploaded and puts it in its place, at once or not
// at all. Without sha256sum the size must do.
//
//	$1 the upload; $2 its place; $3 the checksum; $4 the size
const placeScript = `chmod 755 "$1" || exit 1; ` +
	`if s=$(sha256sum < "$1" 2>/dev/null); then [ "${s%% *}" = "$3" ]; else [ "$(($(wc -c < "$1")))" = "$4" ]; fi || { echo "it did not arrive as it was sent" >&2; exit 1; }; ` +
	`mv -f "$1" "$2" || exit 1; ` +
	`find "${2%/*}" -type f -mtime +` + agedDays + ` -exec rm -f {} + 2>/dev/null; true`

// place brings a program to a host, under a name that holds its checksum, and
// returns its path there. What is there already stays.
func (c *connection) place(ctx context.Context, e entry, f facts, b *binary) (string, error) {
	to := path.Join(f.folder, "bin", b.name())
	if f.sum == b.sum {
		return to, nil
	}
	if f.free >= 0 && f.free < b.size+roomBeside {
		return "", errNoRoom(e, f.folder, f.free, b.size)
	}
	ctx, cancel := context.WithTimeout(ctx, uploadWait)
	defer cancel()
	upload := path.Join(f.folder, "bin", ".upload-"+drawName())
	err := c.upload(ctx, b.path, upload)
	if err == nil {
		_, err = c.run(ctx, nil, "sh", "-c", placeScript, "chaos", upload, to, b.sum, fmt.Sprint(b.size))
	}
	if err != nil {
		_, gone := c.run(context.WithoutCancel(ctx), nil, "rm", "-f", upload)
		return "", fmt.Errorf("ssh: %s: bringing the program to %s: %w; remedy: see that there are %d MiB free and that the user may write there, or name another folder: in the hosts file",
			e.name, f.folder, errors.Join(err, gone), (b.size+roomBeside)>>20)
	}
	return to, nil
}

func errNoRoom(e entry, folder string, free, size int64) error {
	return fmt.Errorf("ssh: %s: only %d MiB are free in %s, and %d are needed; remedy: make room, or name another folder: in the hosts file",
		e.name, free>>20, folder, (size+roomBeside)>>20)
}

// upload copies a file over SFTP, or where a server has none through cat.
func (c *connection) upload(ctx context.Context, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	client, err := c.openSFTP(ctx)
	if err != nil {
		_, err = c.runLong(ctx, f, "sh", "-c", `umask 077; cat > "$1"`, "chaos", to)
		return err
	}
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	out, err := client.Create(to)
	if err != nil {
		return fmt.Errorf("making %s: %w", to, err)
	}
	_, err = out.ReadFrom(f)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", to, err)
	}
	return nil
}

// openSFTP starts the server's SFTP subsystem.
func (c *connection) openSFTP(ctx context.Context) (*sftp.Client, error) {
	session, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	in, err := session.StdinPipe()
	var out io.Reader
	if err == nil {
		out, err = session.StdoutPipe()
	}
	if err == nil {
		err = session.RequestSubsystem("sftp")
	}
	var client *sftp.Client
	if err == nil {
		stop := context.AfterFunc(ctx, func() { session.Close() })
		defer stop()
		client, err = sftp.NewClientPipe(out, in, sftp.UseConcurrentWrites(true))
	}
	if err != nil {
		session.Close()
		return nil, err
	}
	return client, nil
}

// drawName is a name that nobody else has drawn.
func drawName() string {
	var b [4]byte
	rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}
