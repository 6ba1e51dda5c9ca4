package scim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// maxListed bounds a listing: a target that claims more is not believed.
const maxListed = 5_000_000

// ListOptions says what a listing returns.
type ListOptions struct {
	Attributes         []string // these alone; not together with ExcludedAttributes
	ExcludedAttributes []string
	PageSize           int // the profile's when 0
}

// Find looks resources up by the value of an attribute. The answer is compared
// again here, because targets ignore filters or read them their own way. A target
// that distinguishes case can be asked for other spellings, one after the other,
// until one matches. More than one resource is returned as it is: which one is
// right is the caller's question. ErrIncomplete means that nothing may be
// concluded.
func (c *Client) Find(ctx context.Context, kind Kind, attribute, value string, spellings ...string) ([]*Resource, error) {
	p, err := lookUpPath(attribute, value)
	if err != nil {
		return nil, err
	}
	values := append([]string{value}, spellings...)
	for i, spelling := range values {
		if spelling == "" || slices.Contains(values[:i], spelling) {
			continue
		}
		found, err := c.find(ctx, kind, p, spelling, values)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	return nil, nil
}

func (c *Client) find(ctx context.Context, kind Kind, p Path, value string, values []string) ([]*Resource, error) {
	var found []*Resource
	l := c.listing(kind, ListOptions{})
	l.req.query.Set("filter", filterEqual(p, value))
	if kind == KindGroup {
		l.req.query.Set("excludedAttributes", "members")
	}
	_, err := l.run(ctx, func(r *Resource) error {
		if r.matches(p, values) {
			found = append(found, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look a %s up by %s: %w", kind, p, err)
	}
	return found, nil
}

// List reads all resources of a kind, page by page, each once. It returns
// ErrIncomplete when the target's pages do not add up to what it says it has, or
// when that changed on the way: then absence proves nothing.
func (c *Client) List(ctx context.Context, kind Kind, opts ListOptions, each func(*Resource) error) (total int, err error) {
	total, err = c.listing(kind, opts).run(ctx, each)
	if err != nil {
		return total, fmt.Errorf("list %ss: %w", kind, err)
	}
	return total, nil
}

// listing is one walk over the pages.
type listing struct {
	client *Client
	req    *request
	size   int
	seen   map[string]struct{}
	total  int // what the first page said
}

func (c *Client) listing(kind Kind, opts ListOptions) *listing {
	req := c.collection(http.MethodGet, kind)
	setList(req.query, "attributes", opts.Attributes)
	setList(req.query, "excludedAttributes", opts.ExcludedAttributes)
	size := opts.PageSize
	if size <= 0 {
		size = c.cfg.Profile.PageSize
	}
	return &listing{client: c, req: req, size: size, seen: map[string]struct{}{}}
}

// run reads pages until all that the target claims to have was seen. Every page
// must bring something new, so it ends whatever the target answers; what targets
// echo as startIndex and itemsPerPage is wrong too often to count.
func (l *listing) run(ctx context.Context, each func(*Resource) error) (int, error) {
	for start := 1; ; {
		p, err := l.page(ctx, start)
		if err != nil {
			return l.total, err
		}
		if start == 1 {
			l.total = p.total
		}
		switch {
		case p.total > maxListed:
			return p.total, fmt.Errorf("%w: the target claims %d resources", ErrIncomplete, p.total)
		case p.total != l.total:
			return p.total, fmt.Errorf("%w: the target had %d resources at first and %d later", ErrIncomplete, l.total, p.total)
		}
		fresh, err := l.deliver(p.resources, each)
		if err != nil {
			return l.total, err
		}
		start += len(p.resources)
		if start > l.total || fresh == 0 {
			return l.total, l.complete()
		}
	}
}

func (l *listing) deliver(resources []map[string]any, each func(*Resource) error) (fresh int, err error) {
	for _, attributes := range resources {
		r, err := newResource(attributes)
		if err != nil || r.ID == "" {
			return fresh, fmt.Errorf("%w: a resource without id", ErrIncomplete)
		}
		if _, repeated := l.seen[r.ID]; repeated {
			continue
		}
		l.seen[r.ID] = struct{}{}
		fresh++
		if err := each(r); err != nil {
			return fresh, err
		}
	}
	return fresh, nil
}

func (l *listing) complete() error {
	if len(l.seen) != l.total {
		return fmt.Errorf("%w: the target says it has %d resources and returned %d", ErrIncomplete, l.total, len(l.seen))
	}
	return nil
}

type page struct {
	total     int
	resources []map[string]any
}

func (l *listing) page(ctx context.Context, start int) (page, error) {
	l.req.query.Set("startIndex", strconv.Itoa(start))
	l.req.query.Set("count", strconv.Itoa(l.size))
	resp, err := l.client.do(ctx, l.req)
	if err != nil {
		return page{}, err
	}
	var answer struct {
		TotalResults *json.Number     `json:"totalResults"`
		Resources    []map[string]any `json:"Resources"`
	}
	if err := decodeJSON(resp.body, &answer); err != nil {
		return page{}, l.req.failed(resp, err)
	}
	p := page{total: len(answer.Resources), resources: answer.Resources}
	if answer.TotalResults != nil {
		if p.total, err = strconv.Atoi(answer.TotalResults.String()); err != nil || p.total < 0 {
			return page{}, l.req.failed(resp, fmt.Errorf("%w: totalResults is %q", ErrIncomplete, clip(answer.TotalResults.String(), 20)))
		}
	}
	return p, nil
}
