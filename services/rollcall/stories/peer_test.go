package stories

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// targetless are the stories about the commands, NATS and how a directory is read.
// What they send to a target, others send too, so that the strict server is enough.
var targetless = []string{"config", "console", "forget", "guard", "membership", "outage", "pause", "restart", "unchanged"}

// runOnPeer runs the stories in which the target matters, but for some, against a
// server that others wrote.
func runOnPeer(t *testing.T, name string, otherwise ways, but ...string) {
	t.Helper()
	dir, err := install(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context, _ string) (target, error) { return startPeer(ctx, dir, otherwise) }, slices.Concat(targetless, but)...)
}

// install brings a server from its lock file.
func install(ctx context.Context, name string) (string, error) {
	script, err := filepath.Abs("../../../scripts/peers.sh")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, script, name)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("install the SCIM server of others: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// peer is a server that others wrote.
type peer struct {
	base      string
	states    string // where its users and groups are listed with all that they hold
	otherwise ways
	stop      func()
}

var errNoURL = errors.New("the server says no URL")

// startPeer starts a server that was installed in a directory. It prints its URL, and
// where SCIM does not show everything, another one for the state.
func startPeer(ctx context.Context, dir string, otherwise ways) (target, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "server"))
	cmd.Env = append(os.Environ(), "TOKEN="+token)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	stop := func() { cancel(); _ = cmd.Wait() }
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		stop()
		return nil, errNoURL
	}
	base, states, _ := strings.Cut(lines.Text(), " ")
	return &peer{base: base, states: cmp.Or(states, base), otherwise: otherwise, stop: stop}, nil
}

func (s *peer) url() string { return s.base }
func (s *peer) ways() ways  { return s.otherwise }
func (s *peer) close()      { s.stop() }

func (s *peer) state(ctx context.Context) (string, error) {
	users, err := s.list(ctx, "/Users")
	if err != nil {
		return "", err
	}
	groups, err := s.list(ctx, "/Groups")
	return describe(users, groups), err
}

// list reads the first page: scimmy pages by 20 and ignores startIndex, and a story
// has fewer.
func (s *peer) list(ctx context.Context, path string) ([]map[string]any, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.states+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	var page struct {
		TotalResults int
		Resources    []map[string]any
	}
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil {
		return nil, err
	}
	if page.TotalResults != len(page.Resources) {
		return nil, fmt.Errorf("%s: %d of %d on the first page", path, len(page.Resources), page.TotalResults)
	}
	return page.Resources, nil
}
