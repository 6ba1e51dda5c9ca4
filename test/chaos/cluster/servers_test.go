//go:build cluster

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-scim/rollcall/test/chaos/process"
)

const nrServers = 3

// streams are Rollcall's streams and buckets.
var streams = []string{"USERS", "GROUPS", "REQUESTS", "OUTCOMES", "KV_links", "KV_sources", "KV_targets"}

// servers are the NATS cluster.
type servers struct {
	t    *testing.T
	bin  *programs
	dir  string
	all  []*natsServer
	conn *nats.Conn // of the test, past the proxies
	js   jetstream.JetStream
}

// natsServer is one server; its ports stay the same over restarts.
type natsServer struct {
	*process.Process

	name          string
	port, cluster int
	store, log    string
	advertise     string   // an address at which nothing listens
	routes        []*proxy // to the others, by their place; nil to itself
}

// startServers starts the cluster and waits until JetStream answers. The servers keep
// their streams in directories of their own below dir.
func startServers(t *testing.T, bin *programs) *servers {
	t.Helper()
	c := &servers{t: t, bin: bin, dir: t.TempDir()}
	for i := range nrServers {
		name := "n" + strconv.Itoa(i+1)
		s := &natsServer{name: name, store: filepath.Join(c.dir, name), log: filepath.Join(c.dir, name+".log")}
		s.port, s.cluster, s.advertise = freePort(t), freePort(t), address(i+1)
		c.all = append(c.all, s)
	}
	for i, from := range c.all {
		for j, to := range c.all {
			var route *proxy
			if i != j {
				route = newProxy(t, address(to.cluster))
			}
			from.routes = append(from.routes, route)
		}
	}
	for _, s := range c.all {
		c.start(s)
	}
	t.Cleanup(func() {
		for _, s := range c.all {
			if t.Failed() {
				t.Logf("the end of %s:\n%s", filepath.Base(s.log), tail(s.log))
			}
		}
	})
	c.connect()
	c.answer(t.Context())
	return c
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ports are those that were given out. They are below the ones that the system gives to
// connections, so that a server that starts again finds its own still free.
var ports = struct {
	sync.Mutex
	given map[int]bool
}{given: map[int]bool{}}

const (
	firstPort = 12_000
	nrPorts   = 18_000
)

// freePort is a port that nothing listens on and that nobody else was given.
func freePort(t *testing.T) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for {
		port := firstPort + rand.IntN(nrPorts)
		l, err := net.Listen("tcp", address(port))
		if err != nil || ports.given[port] {
			continue
		}
		ports.given[port] = true
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
}

// start starts a server that does not run.
func (c *servers) start(s *natsServer) {
	c.t.Helper()
	var routes []string
	for _, route := range s.routes {
		if route != nil {
			routes = append(routes, "nats-route://"+route.address())
		}
	}
	s.Process = c.bin.launch(c.t, "natsd", s.log, clockOf(s.log), "-name", s.name, "-advertise", s.advertise, "-store", s.store,
		"-port", strconv.Itoa(s.port), "-cluster", strconv.Itoa(s.cluster), "-routes", strings.Join(routes, ","))
}

// urls are the addresses for the test itself.
func (c *servers) urls() string {
	var urls []string
	for _, s := range c.all {
		urls = append(urls, "nats://"+address(s.port))
	}
	return strings.Join(urls, ",")
}

func (c *servers) connect() {
	c.t.Helper()
	conn, err := nats.Connect(c.urls(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true),
		nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2), nats.Name("chaos"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.conn = conn
	c.t.Cleanup(conn.Close)
	if c.js, err = jetstream.New(conn); err != nil {
		c.t.Fatal(err)
	}
}

// answer waits until JetStream answers: then the servers have a leader.
func (c *servers) answer(ctx context.Context) {
	c.t.Helper()
	eventually(ctx, c.t, time.Minute, "JetStream answers", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := c.js.AccountInfo(ctx)
		return err
	})
}

// leader is the server that leads a stream.
func (c *servers) leader(ctx context.Context, stream string) *natsServer {
	c.t.Helper()
	var leader *natsServer
	eventually(ctx, c.t, 30*time.Second, "stream "+stream+" has a leader", func(ctx context.Context) error {
		name, err := c.leads(ctx, stream)
		if leader = c.named(name); leader == nil && err == nil {
			err = fmt.Errorf("%w: the leader is %q", errNotYet, name)
		}
		return err
	})
	return leader
}

var errNotYet = errors.New("not yet")

func (c *servers) leads(ctx context.Context, stream string) (string, error) {
	info, err := c.info(ctx, stream)
	if err != nil {
		return "", err
	}
	return info.Cluster.Leader, nil
}

func (c *servers) info(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", stream, err)
	}
	if s.CachedInfo().Cluster == nil {
		return nil, fmt.Errorf("%w: %s says nothing of its cluster", errNotYet, stream)
	}
	return s.CachedInfo(), nil
}

func (c *servers) named(name string) *natsServer {
	for _, s := range c.all {
		if s.name == name {
			return s
		}
	}
	return nil
}

// complete waits until every stream has a leader and two followers that are current, so
// that a further server may be lost without loss of the majority.
func (c *servers) complete(ctx context.Context) {
	c.t.Helper()
	eventually(ctx, c.t, 90*time.Second, "every stream is on three servers that are current", func(ctx context.Context) error {
		for _, stream := range streams {
			info, err := c.info(ctx, stream)
			if err != nil {
				return err
			}
			current := 0
			for _, r := range info.Cluster.Replicas {
				if r.Current && !r.Offline {
					current++
				}
			}
			if info.Cluster.Leader == "" || current < nrServers-1 {
				return fmt.Errorf("%w: %s is led by %q with %d current followers", errNotYet, stream, info.Cluster.Leader, current)
			}
		}
		return nil
	})
}

// led waits until a stream is led by another server than the former one.
func (c *servers) led(ctx context.Context, stream string, former *natsServer) time.Duration {
	c.t.Helper()
	begin := time.Now()
	eventually(ctx, c.t, 30*time.Second, stream+" is led by another server than "+former.name, func(ctx context.Context) error {
		name, err := c.leads(ctx, stream)
		if err == nil && (name == "" || name == former.name) {
			err = fmt.Errorf("%w: %q leads", errNotYet, name)
		}
		return err
	})
	return time.Since(begin)
}

// routesBetween are the proxies on the way between two servers, with the direction that
// leads from the first to the second.
func (c *servers) routesBetween(from, to int) map[*proxy]direction {
	return map[*proxy]direction{c.all[from].routes[to]: request, c.all[to].routes[from]: response}
}

// silence keeps what one server sends from another one; the other way stays open.
func (c *servers) silence(from, to int) {
	for p, way := range c.routesBetween(from, to) {
		p.hold(way)
	}
}

// isolate cuts a server from the other two, both ways; clients still reach it.
func (c *servers) isolate(one int) {
	for other := range c.all {
		if other != one {
			c.silence(one, other)
			c.silence(other, one)
		}
	}
}

// heal lets all servers speak with each other again.
func (c *servers) heal() {
	for _, s := range c.all {
		for _, p := range s.routes {
			if p != nil {
				p.heal()
			}
		}
	}
}

// wipe empties the disk of a server that does not run.
func (c *servers) wipe(s *natsServer) {
	c.t.Helper()
	if err := os.RemoveAll(s.store); err != nil {
		c.t.Fatal(err)
	}
}
