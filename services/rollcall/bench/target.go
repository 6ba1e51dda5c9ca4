package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// target is a scimtest that runs in a process of its own.
type target struct {
	*child
	url  string // of the SCIM endpoints
	http *http.Client
}

// startTarget starts an empty target and waits until it listens.
func (b *bench) startTarget(ctx context.Context, dir string, latency time.Duration, more ...string) (*target, error) {
	file := filepath.Join(dir, "scim.url")
	c, err := start(filepath.Join(dir, "scimtest.log"), b.program("scimtest"),
		append([]string{"-token", token, "-latency", latency.String(), "-url-file", file}, more...)...)
	if err != nil {
		return nil, err
	}
	t := &target{child: c, http: &http.Client{Timeout: 10 * time.Second}}
	err = until(ctx, 10*time.Millisecond, func() (bool, error) {
		text, err := os.ReadFile(file) //nolint:gosec // in our own directory
		t.url = strings.TrimSpace(string(text))
		return err == nil, c.alive()
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the target: %w", err)
	}
	return t, nil
}

// requests are those that the target answered, behind a number, in order.
func (t *target) requests(ctx context.Context, after int) (all []scimtest.Request, err error) {
	return all, t.page(ctx, fmt.Sprintf("/requests?after=%d", after), &all)
}

// counts are how many users and groups the target holds, and how many requests have
// come: asking for them costs it next to nothing.
type counts struct {
	Users    int `json:"users"`
	Groups   int `json:"groups"`
	Requests int `json:"requests"`
}

// counts asks for them.
func (t *target) counts(ctx context.Context) (c counts, err error) {
	return c, t.page(ctx, "/counts", &c)
}

// content is how much the target holds.
type content struct {
	Users  int `json:"user_count"`
	Groups int `json:"group_count"`
	Rows   []struct {
		Members int `json:"members"`
	} `json:"groups"`
}

// holds says whether the target has as much as the directory.
func (t *target) holds(ctx context.Context, s shape) (bool, error) {
	var c content
	if err := t.page(ctx, "/state", &c); err != nil {
		return false, err
	}
	members := 0
	for _, row := range c.Rows {
		members += row.Members
	}
	return c.Users == s.users && c.Groups == s.groups && members == s.memberships(), nil
}

// page reads one of the pages that the target does not count as requests.
func (t *target) page(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(t.url, scimtest.BasePath)+path, nil)
	if err != nil {
		return fmt.Errorf("ask the target: %w", err)
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the target: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read %s of the target: %w", path, err)
	}
	return nil
}

// ids are the ids of the resources of a kind, by name.
func (t *target) ids(ctx context.Context, kind scim.Kind, name string) (map[string]string, error) {
	client, err := scim.New(scim.Config{URL: t.url, Auth: scim.Bearer{Token: func() (string, error) { return token, nil }}})
	if err != nil {
		return nil, fmt.Errorf("list the target: %w", err)
	}
	defer client.Close()
	ids := map[string]string{}
	_, err = client.List(ctx, kind, scim.ListOptions{Attributes: []string{name}}, func(r *scim.Resource) error {
		if text, ok := r.Attributes[name].(string); ok {
			ids[text] = r.ID
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the target: %w", err)
	}
	return ids, nil
}
