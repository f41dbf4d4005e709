package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// The labels of an image: the checksum of the program in it, and the names of
// those that were asked for beside it.
const (
	labelBinary = "chaos.binary"
	labelWith   = "chaos.with"
)

// programPath is where our program stands in a container.
const programPath = "/chaos"

// folders of an image are the places where things get mounted.
var imageFolders = []string{"bin", "data", "key", "plan", "results", "tmp"}

// loadMax bounds what an engine answers when it loads an image, bytes.
const loadMax = 1 << 20

// An Image is one that an engine has.
type Image struct {
	ID, Name string
	Built    bool     // by this call; else it was there
	Size     int64    // bytes of the programs in it
	With     []string // the programs beside ours
}

// BuildImage makes the image from a static program alone, with other static
// programs beside it, where the engine has none of the same content. name "" is
// [DefaultImage], program "" the running one.
func BuildImage(ctx context.Context, name, program string, with []string) (Image, error) {
	e, err := connect(ctx)
	if err != nil {
		return Image{}, err
	}
	defer e.Close()
	p := New(program, Config{Image: name})
	return p.image(ctx, e, with)
}

// image makes sure that the engine has the image of our program.
func (p *Provider) image(ctx context.Context, e *engine, with []string) (Image, error) {
	image := Image{Name: p.config.Image}
	main, arch, err := p.ours(ctx, e)
	if err != nil {
		return image, err
	}
	more, err := extras(with, arch)
	if err != nil {
		return image, err
	}
	contents := append([]content{main}, more...)
	for _, c := range contents {
		image.Size += c.size
	}
	labels := imageLabels(contents)
	old, err := e.ImageInspect(ctx, image.Name)
	if err != nil && !absent(err) {
		return image, fmt.Errorf("docker: looking for the image %s: %w", image.Name, err)
	}
	if err == nil && old.Config != nil {
		image.With = withNames(old.Config.Labels[labelWith])
		same := old.Config.Labels[labelBinary] == labels[labelBinary]
		if same && (len(with) == 0 || old.Config.Labels[labelWith] == labels[labelWith]) {
			image.ID = old.ID
			return image, nil
		}
		if len(with) == 0 && len(image.With) > 0 {
			return image, fmt.Errorf("docker: the image %s is of another build of chaos and holds %s as well: make it anew with %s --with FILE",
				image.Name, strings.Join(image.With, ", "), p.makeImage())
		}
	}
	if image.ID, err = e.load(ctx, image.Name, arch, contents, labels); err != nil {
		return image, err
	}
	image.Built, image.With = true, withNames(labels[labelWith])
	if old.ID != "" && old.ID != image.ID {
		// Nobody can name the old one any more; containers of others may still use it.
		_, _ = e.ImageRemove(ctx, old.ID, client.ImageRemoveOptions{})
	}
	return image, nil
}

// ours is our program as the engine's machine can run it.
func (p *Provider) ours(ctx context.Context, e *engine) (c content, arch string, err error) {
	program, err := p.path()
	if err != nil {
		return c, "", err
	}
	info, err := e.info(ctx)
	if err != nil {
		return c, "", err
	}
	arch = architecture(info.Architecture)
	if program, err = FindBinary(program, arch); err != nil {
		return c, arch, err
	}
	c, err = readContent(program, strings.TrimPrefix(programPath, "/"))
	return c, arch, err
}

// imageLabels say what is inside: equal labels, equal images.
func imageLabels(contents []content) map[string]string {
	labels := map[string]string{labelBinary: contents[0].sum}
	var with []string
	for _, c := range contents[1:] {
		with = append(with, strings.TrimPrefix(c.target, "bin/")+"="+c.sum)
	}
	if len(with) > 0 {
		labels[labelWith] = strings.Join(with, ",")
	}
	return labels
}

func withNames(label string) (out []string) {
	for _, one := range strings.Split(label, ",") {
		if name, _, ok := strings.Cut(one, "="); ok {
			out = append(out, name)
		}
	}
	return out
}

// load streams an image into the engine, in the format of docker save: that
// needs no builder, no base image and no network.
func (e *engine) load(ctx context.Context, name, arch string, contents []content, labels map[string]string) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeImage(w, name, arch, contents, labels)) }()
	defer r.Close()
	answer, err := e.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
	if err != nil {
		return "", fmt.Errorf("docker: loading the image %s: %w", name, err)
	}
	defer answer.Close()
	if err := loadError(answer); err != nil {
		return "", fmt.Errorf("docker: loading the image %s: %w", name, err)
	}
	got, err := e.ImageInspect(ctx, name)
	if err != nil {
		return "", fmt.Errorf("docker: the image %s was loaded and is not there: %w", name, err)
	}
	if got.Config == nil || got.Config.Labels[labelBinary] != labels[labelBinary] {
		return "", fmt.Errorf("docker: the image %s was replaced by somebody else meanwhile", name)
	}
	return got.ID, nil
}

// loadError finds the error in a stream of JSON messages.
func loadError(answer io.Reader) error {
	d := json.NewDecoder(io.LimitReader(answer, loadMax))
	for {
		var line struct {
			Error string `json:"error"`
		}
		switch err := d.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}

// writeImage writes an image of one layer: a tar file of a tar file, and two
// descriptions. Equal contents give equal bytes, and so equal IDs.
func writeImage(w io.Writer, name, arch string, contents []content, labels map[string]string) error {
	size := &counter{sum: sha256.New()}
	if err := writeLayer(size, contents); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config":  map[string]any{"Entrypoint": []string{programPath}, "Labels": labels},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(size.sum.Sum(nil))}},
		"history": []map[string]any{{"created": time.Unix(0, 0).UTC(), "created_by": "chaos image"}},
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	configName := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		b    []byte
	}{{configName, config}, {"manifest.json", manifest}} {
		if err := writeFile(out, f.name, 0o644, int64(len(f.b)), bytes.NewReader(f.b)); err != nil {
			return err
		}
	}
	if err := out.WriteHeader(&tar.Header{Name: "layer.tar", Mode: 0o644, Size: size.n, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	if err := writeLayer(out, contents); err != nil {
		return err
	}
	return out.Close()
}

// writeLayer writes the files of the image.
func writeLayer(w io.Writer, contents []content) error {
	out := tar.NewWriter(w)
	for _, d := range imageFolders {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}
		if d == "tmp" || d == "key" { // what a fresh volume there takes over
			h.Mode = 0o1777
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
	}
	for _, c := range contents {
		f, err := os.Open(c.source)
		if err != nil {
			return err
		}
		err = writeFile(out, c.target, 0o755, c.size, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", c.source, err)
		}
	}
	return out.Close()
}

func writeFile(out *tar.Writer, name string, mode, size int64, r io.Reader) error {
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.Copy(out, r)
	return err
}

// A counter tells how much was written, and its checksum.
type counter struct {
	n   int64
	sum hash.Hash
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.sum.Write(b)
}
