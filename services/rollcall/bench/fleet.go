package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// fleet is every service in a process of its own, around a NATS of its own.
type fleet struct {
	cfg      *connection.Config
	children []*child
}

// startFleet starts NATS, a change-detector, so many replicas of user-sync, and
// group-sync where groups are wanted.
func (b *bench) startFleet(ctx context.Context, dir string, directory *ldaptest.Server, how setting, users, groups int) (f *fleet, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	f = &fleet{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.stop())
		}
	}()
	files, urls, err := writeServers(ctx, dir, max(1, how.servers))
	if err != nil {
		return nil, err
	}
	how.nats = urls
	file, cfg, err := writeConfig(dir, directory, how)
	if err != nil {
		return nil, err
	}
	f.cfg = cfg
	for i, natsFile := range files {
		if err := f.start(b, dir, "nats-server", i, natsFile); err != nil {
			return nil, err
		}
	}
	for i := range users {
		if err := f.start(b, dir, "user-sync", i, file); err != nil { // services wait for NATS
			return nil, err
		}
	}
	for i := range groups {
		if err := f.start(b, dir, "group-sync", i, file); err != nil {
			return nil, err
		}
	}
	if err := f.start(b, dir, "change-detector", 0, file); err != nil {
		return nil, err
	}
	return f, nil
}

// start starts one more program with its configuration.
func (f *fleet) start(b *bench, dir, name string, i int, config string) error {
	c, err := start(filepath.Join(dir, fmt.Sprintf("%s-%d.log", name, i)), b.program(name), "--config", config)
	if err == nil {
		f.children = append(f.children, c)
	}
	return err
}

// writeServers writes the configurations of so many NATS servers, which are one cluster,
// and returns the files and the URLs for clients.
func writeServers(ctx context.Context, dir string, n int) (files []string, urls string, err error) {
	ports, routes := make([]string, n), make([]string, n)
	for i := range n {
		client, err := freeAddress(ctx)
		if err != nil {
			return nil, "", err
		}
		peers, err := freeAddress(ctx)
		if err != nil {
			return nil, "", err
		}
		_, ports[i], _ = net.SplitHostPort(client)
		routes[i] = "nats-route://" + peers
		urls += strings.Repeat(",", min(i, 1)) + "nats://" + client
	}
	for i := range n {
		text := fmt.Sprintf("server_name: n%d\nhost: 127.0.0.1\nport: %s\njetstream {store_dir: %q, sync_interval: always}\n",
			i, ports[i], filepath.Join(dir, fmt.Sprintf("nats-%d", i)))
		if n > 1 {
			text += fmt.Sprintf("cluster {name: bench, listen: %q, routes: [%s]}\n", strings.TrimPrefix(routes[i], "nats-route://"), strings.Join(routes, ", "))
		}
		file := filepath.Join(dir, fmt.Sprintf("nats-%d.conf", i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, "", fmt.Errorf("write the configuration of NATS: %w", err)
		}
		files = append(files, file)
	}
	return files, urls, nil
}

func (f *fleet) alive() error {
	for _, c := range f.children {
		if err := c.alive(); err != nil {
			return err
		}
	}
	return nil
}

// stop ends everything, NATS last.
func (f *fleet) stop() (err error) {
	for _, c := range slices.Backward(f.children) {
		err = errors.Join(err, c.stop())
	}
	return err
}

// memory is the greatest resident memory of a service, in bytes.
func (f *fleet) memory(name string) (peak float64) {
	for _, c := range f.children {
		if c.name == name {
			_, one := c.memory()
			peak = max(peak, one)
		}
	}
	return peak
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
