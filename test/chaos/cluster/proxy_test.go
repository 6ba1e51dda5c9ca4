//go:build cluster

package cluster

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// direction is which way bytes flow through a proxy.
type direction int

const (
	request  direction = iota // from the one who connected
	response                  // to the one who connected
)

// proxy passes the connections that it accepts on to one address. Each direction can be
// held up: the bytes wait, and neither side is told, as in a network that drops packets.
type proxy struct {
	listener net.Listener
	upstream string
	wg       sync.WaitGroup

	mu    sync.Mutex
	held  [2]bool
	moved *sync.Cond // a direction was held up or let go, or everything ends
	conns map[net.Conn]bool
	ended bool
}

// newProxy listens on loopback until the test ends.
func newProxy(t *testing.T, upstream string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, upstream: upstream, conns: map[net.Conn]bool{}}
	p.moved = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// address is where to connect.
func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.ended = true
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.moved.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
}

// hold holds up the given directions, of present and of new connections.
func (p *proxy) hold(ways ...direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, way := range ways {
		p.held[way] = true
	}
}

// heal lets everything flow. Connections that were held up are closed, because a network
// that was cut for longer than its retransmissions leaves none.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[request] || p.held[response] {
		for conn := range p.conns {
			_ = conn.Close()
		}
	}
	p.held = [2]bool{}
	p.moved.Broadcast()
}

// release lets everything flow and keeps the connections: what was held up arrives late.
func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = [2]bool{}
	p.moved.Broadcast()
}

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.pass(conn) })
	}
}

// pass connects to the upstream and copies both ways until either side ends.
func (p *proxy) pass(down net.Conn) {
	if !p.enter(down) {
		return
	}
	defer p.leave(down)
	up, err := net.DialTimeout("tcp", p.upstream, 5*time.Second)
	if err != nil || !p.enter(up) {
		return
	}
	defer p.leave(up)
	var both sync.WaitGroup
	both.Go(func() { p.copy(up, down, request) })
	both.Go(func() { p.copy(down, up, response) })
	both.Wait()
}

func (p *proxy) enter(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *proxy) leave(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	_ = conn.Close()
}

// copy passes on what comes from one side while its direction is not held up. The end
// of a side is held up like its bytes.
func (p *proxy) copy(to, from net.Conn, way direction) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !p.wait(way) {
			return
		}
		if n > 0 {
			if _, writeErr := to.Write(buffer[:n]); writeErr != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = from.Close()
			}
			_ = to.Close()
			return
		}
	}
}

// wait returns when the direction is let go; false means that everything ends.
func (p *proxy) wait(way direction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held[way] && !p.ended {
		p.moved.Wait()
	}
	return !p.ended
}
