//go:build linux

// Package kubetest runs a real Kubernetes for the length of a test: API server,
// controllers, scheduler, kubelet, containerd, kube-proxy and DNS of one node, in
// namespaces of their own that nothing leaves and nothing outlives. What they are
// made of comes from scripts/cluster.sh (Kubernetes, built from its module) and
// scripts/debian.sh (containerd and its company).
//
// It needs root on Linux. Elsewhere Run takes the lighter tier: the same API server,
// controllers and scheduler on loopback, with a pretended node whose pods are ready
// without running.
package kubetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startPatience is how long one part may take to come up. The machine may be busy
// with other tests.
const startPatience = 3 * time.Minute

// Node is a Kubernetes of one node, up and ready.
type Node struct {
	Address   string // of the node; pods reach what listens here
	Pretended bool   // pods are ready and do not run

	tb        testing.TB
	dir       string // everything that is written
	programs  string // directory of Kubernetes and Helm
	container string // root of containerd and what it needs
	env       []string
	parts     []*part
}

// Kubectl runs kubectl to its end and returns its output. It fails the test where
// that fails.
func (n *Node) Kubectl(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := n.Try(tb.Context(), "", "kubectl", args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Apply creates or changes the objects of a YAML document.
func (n *Node) Apply(tb testing.TB, yaml string) {
	tb.Helper()
	if _, err := n.Try(tb.Context(), yaml, "kubectl", "apply", "--server-side", "-f", "-"); err != nil {
		tb.Fatal(err)
	}
}

// Get reads an object, or a list of them, by the arguments of `kubectl get`.
func (n *Node) Get(tb testing.TB, into any, args ...string) {
	tb.Helper()
	out := n.Kubectl(tb, append([]string{"get", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		tb.Fatalf("read what kubectl get %s printed: %v", strings.Join(args, " "), err)
	}
}

// Try runs one of the cluster's programs (kubectl, helm3) or another by its path,
// with what it needs to reach the cluster, and returns its output.
func (n *Node) Try(ctx context.Context, input, program string, args ...string) (string, error) {
	if !filepath.IsAbs(program) {
		program = filepath.Join(n.programs, program)
	}
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // our own programs
	cmd.Env, cmd.Stdin = n.env, strings.NewReader(input)
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(program), strings.Join(args, " "), err, out.String(), faults.String())
	}
	return out.String(), nil
}

// askEvery is how often it is asked for what is waited for.
const askEvery = 100 * time.Millisecond

var errEnded = errors.New("ended")

// Await asks until the answer is nil, ctx ends or a part of the cluster does.
func (n *Node) Await(ctx context.Context, holds func(context.Context) error) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		for _, p := range n.parts {
			if p.hasEnded() {
				return fmt.Errorf("%s %w (%v)\n%s", p.name, errEnded, p.cmd.ProcessState, tail(p.log))
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// repository is the root of this repository.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "scripts", "cluster.sh")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("find the repository: no directory above has scripts/cluster.sh")
}

// Script runs one of the repository's scripts that bring programs, and returns the
// directory that it prints.
func Script(ctx context.Context, name string, args ...string) (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", name), args...) //nolint:gosec // our own scripts
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run scripts/%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
