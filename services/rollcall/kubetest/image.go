//go:build linux

package kubetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
)

// Image is a container image without anything below it: some files, which everybody may
// read, and the one that is run as an account without rights.
type Image struct {
	Name       string            // with its tag
	Files      map[string]string // the file on this machine, by its path in the image
	Entrypoint string
}

// unprivileged is the account that images run as, as in deploy/docker/Dockerfile.
const unprivileged = "65532:65532"

// Import makes images known to the node. A pretended node needs none.
func (n *Node) Import(tb testing.TB, images ...Image) {
	tb.Helper()
	if n.Pretended {
		return
	}
	for _, image := range images {
		file := filepath.Join(n.dir, "image.tar")
		if err := image.write(file); err != nil {
			tb.Fatalf("write the image %s: %v", image.Name, err)
		}
		if _, err := n.Try(tb.Context(), "", n.containerd("usr/bin/ctr"), "--namespace", "k8s.io", "images", "import", "--digests", file); err != nil {
			tb.Fatal(err)
		}
	}
}

// write writes the image in Docker's format for archives.
func (i Image) write(file string) error {
	layer, err := i.layer()
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": goarch, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{i.Entrypoint}, "User": unprivileged},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{i.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range []struct {
		name    string
		content []byte
	}{{"manifest.json", manifest}, {name, config}, {"layer.tar", layer}} {
		if err := add(w, f.name, 0o644, f.content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, archive.Bytes(), 0o600)
}

// layer is the image's files, with the directories above them.
func (i Image) layer() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{".": true, "/": true}
	names := make([]string, 0, len(i.Files))
	for name := range i.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var above []string
		for dir := path.Dir(name); !made[dir]; dir = path.Dir(dir) {
			made[dir] = true
			above = append(above, dir)
		}
		for _, dir := range slices.Backward(above) {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755}); err != nil {
				return nil, err
			}
		}
		content, err := os.ReadFile(i.Files[name])
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(i.Files[name])
		if err != nil {
			return nil, err
		}
		if err := add(w, name[1:], 0o644|info.Mode()&0o111, content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func add(w *tar.Writer, name string, mode fs.FileMode, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode), Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
