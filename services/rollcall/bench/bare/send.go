package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/services/rollcall/bench/recording"
)

const (
	callTimeout = 15 * time.Second
	maxAnswer   = 16 << 20
)

// call is a request that is ready to be sent, and its answer.
type call struct {
	method, path string
	body         []byte
	creates      string
	answer       []byte
}

// prepare puts the ids of this target into a phase's requests.
func prepare(phase []recording.Request, ids map[string]string) []*call {
	pairs := make([]string, 0, 2*len(ids))
	for recorded, here := range ids {
		pairs = append(pairs, recorded, here)
	}
	replacer := strings.NewReplacer(pairs...)
	calls := make([]*call, len(phase))
	for i, r := range phase {
		calls[i] = &call{method: r.Method, path: replacer.Replace(r.Path), body: []byte(replacer.Replace(r.Body)), creates: r.Creates}
	}
	return calls
}

// learn takes the ids of what was created from the answers.
func learn(calls []*call, ids map[string]string) error {
	for _, c := range calls {
		if c.creates == "" {
			continue
		}
		var created struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(c.answer, &created); err != nil || created.ID == "" {
			return fmt.Errorf("read the id that %s %s returned: %w", c.method, c.path, errors.Join(err, errNoID))
		}
		ids[c.creates] = created.ID
	}
	return nil
}

var errNoID = errors.New("no id in the answer")

// sender sends with the settings of pkg/scim's transport.
type sender struct {
	http        *http.Client
	url, token  string
	concurrency int
}

func newSender(url, token string, concurrency int) *sender {
	return &sender{url: url, token: token, concurrency: concurrency, http: &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          concurrency,
		MaxIdleConnsPerHost:   concurrency,
		IdleConnTimeout:       60 * time.Second,
		ResponseHeaderTimeout: callTimeout,
	}}}
}

// send sends all calls, so many at a time, and stops at the first refusal.
func (s *sender) send(ctx context.Context, calls []*call) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var senders sync.WaitGroup
	for range s.concurrency {
		senders.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(calls) {
					return
				}
				if err := s.one(ctx, calls[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	senders.Wait()
	return context.Cause(ctx)
}

func (s *sender) one(ctx context.Context, c *call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.method, s.url+c.path, bytes.NewReader(c.body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Accept", scim.ContentType+", application/json;q=0.9")
	req.Header.Set("User-Agent", "bare")
	req.Header.Set("Authorization", "Bearer "+s.token)
	if len(c.body) > 0 {
		req.Header.Set("Content-Type", scim.ContentType)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return fmt.Errorf("send %s %s: %w", c.method, c.path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if c.answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("read the answer to %s %s: %w", c.method, c.path, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("send %s %s: status %d: %.200s", c.method, c.path, resp.StatusCode, c.answer)
	}
	return nil
}
