package docker

import (
	"context"
	"fmt"
	"os"

	"github.com/moby/moby/client"

	"chaos/nodes/agent"
)

// copyOut has the engine copy the node's folder, running or not. That there is
// no such folder is no error.
func (b *box) copyOut(ctx context.Context, into string) error {
	r, err := b.e.CopyFromContainer(ctx, b.id, client.CopyFromContainerOptions{SourcePath: b.dir})
	if absent(err) {
		return os.MkdirAll(into, 0o755)
	}
	if err != nil {
		return fmt.Errorf("docker: copying %s out of %s: %w", b.dir, b.name, err)
	}
	defer r.Content.Close()
	if err := agent.Untar(r.Content, into, 1); err != nil { // names begin with the folder's own
		return fmt.Errorf("docker: copying %s out of %s: %w", b.dir, b.name, err)
	}
	return nil
}
