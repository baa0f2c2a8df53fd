package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// defaultTenant lives at the root.
const defaultTenant = "default"

// maxParams bounds the {name} segments of one path.
const maxParams = 4

// router is the compiled routing table: an exact map for paths without {name}, a
// tree of segments for the others. Immutable after newRouter.
type router struct {
	exact    map[string]*endpoint
	tenanted map[string]*endpoint // below /t/{tenant}
	root     *segment
	tenant   *segment         // below /t/{tenant}
	classes  map[string]Class // by the first segment, for what is not found
}

// endpoint is one path with its methods.
type endpoint struct {
	pattern string // for metrics and logs: from the table, never from a request
	params  []string
	allow   string
	methods []method
}

type method struct {
	name  string
	route *Route
}

// segment is a node of the tree; a literal wins over {name}.
type segment struct {
	literal  map[string]*segment
	param    *segment
	endpoint *endpoint
}

// match is what a lookup found. route is nil when the path is known but not the
// method; endpoint is nil when the path is not known.
type match struct {
	endpoint *endpoint
	route    *Route
	class    Class  // of the route, or of the neighbours of what was not found
	tenant   []byte // nil: the default tenant
	values   [maxParams][]byte
}

func newRouter(routes []Route) (*router, error) {
	r := &router{
		exact:    make(map[string]*endpoint),
		tenanted: make(map[string]*endpoint),
		root:     new(segment),
		tenant:   new(segment),
		classes:  make(map[string]Class),
	}
	for i := range routes {
		route := &routes[i]
		if err := checkRoute(route); err != nil {
			return nil, fmt.Errorf("route %s %q: %w", route.Method, route.Path, err)
		}
		first := string(firstSegment([]byte(route.Path)))
		if have, ok := r.classes[first]; !ok || have == Page { // programs ask for wrong paths more than people do
			r.classes[first] = route.Class
		}
		for _, path := range append([]string{route.Path}, route.Also...) {
			if err := r.add(r.exact, r.root, path, path, route); err != nil {
				return nil, fmt.Errorf("route %s %q: %w", route.Method, path, err)
			}
		}
		if !route.Tenanted {
			continue
		}
		if err := r.add(r.tenanted, r.tenant, route.Path, "/t/{tenant}"+route.Path, route); err != nil {
			return nil, fmt.Errorf("route %s %q: %w", route.Method, route.Path, err)
		}
	}
	return r, nil
}

func checkRoute(r *Route) error {
	switch {
	case !slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, r.Method):
		return errors.New("the method must be GET, POST, PUT, PATCH or DELETE")
	case r.Serve == nil:
		return errors.New("Serve is missing")
	case r.Timeout < 0:
		return errors.New("a route's Timeout is negative")
	case strings.HasPrefix(r.Path, "/t/"):
		return errors.New("/t/ belongs to the tenants; declare the route Tenanted")
	}
	return nil
}

func (r *router) add(exact map[string]*endpoint, tree *segment, path, pattern string, route *Route) error {
	params, err := patternParams(path)
	if err != nil {
		return err
	}
	var e *endpoint
	if len(params) == 0 {
		if exact[path] == nil {
			exact[path] = &endpoint{pattern: pattern}
		}
		e = exact[path]
	} else {
		at := tree
		for _, s := range strings.Split(path[1:], "/") {
			at = at.child(s)
		}
		if at.endpoint == nil {
			at.endpoint = &endpoint{pattern: pattern, params: params}
		}
		e = at.endpoint
		if !slices.Equal(e.params, params) {
			return fmt.Errorf("it names its segments differently from %q", e.pattern)
		}
	}
	return e.add(route)
}

func (e *endpoint) add(route *Route) error {
	for _, m := range e.methods {
		if m.name == route.Method {
			return errors.New("this method and path are declared twice")
		}
	}
	e.methods = append(e.methods, method{route.Method, route})
	names := make([]string, 0, len(e.methods)+1)
	for _, m := range e.methods {
		names = append(names, m.name)
		if m.name == "GET" {
			names = append(names, "HEAD")
		}
	}
	slices.Sort(names)
	e.allow = strings.Join(names, ", ")
	return nil
}

func (s *segment) child(name string) *segment {
	if strings.HasPrefix(name, "{") {
		if s.param == nil {
			s.param = new(segment)
		}
		return s.param
	}
	if s.literal == nil {
		s.literal = make(map[string]*segment)
	}
	if s.literal[name] == nil {
		s.literal[name] = new(segment)
	}
	return s.literal[name]
}

// patternParams checks a path of the table and lists its {name} segments.
func patternParams(path string) ([]string, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, errors.New("the path must start with a slash")
	}
	var params []string
	for _, s := range strings.Split(path[1:], "/") {
		if !strings.ContainsAny(s, "{}") {
			if v := checkPath([]byte("/" + s)); v.status != 0 || strings.Contains(s, "%") || s == "" && path != "/" {
				return nil, fmt.Errorf("segment %q could never be asked for", s)
			}
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
		if len(name) != len(s)-2 || name == "" || strings.ContainsAny(name, "{}") {
			return nil, fmt.Errorf("segment %q must be literal or one {name}", s)
		}
		if slices.Contains(params, name) {
			return nil, fmt.Errorf("segment {%s} comes twice", name)
		}
		params = append(params, name)
	}
	if len(params) > maxParams {
		return nil, fmt.Errorf("more than %d {name} segments", maxParams)
	}
	return params, nil
}

// find looks a path up that checkPath let pass. Values are slices of path.
func (r *router) find(httpMethod, path []byte, m *match) {
	if len(path) > 3 && string(path[:3]) == "/t/" {
		r.findTenant(httpMethod, path[3:], m)
		return
	}
	m.class = r.classOf(path)
	if e := r.exact[string(path)]; e != nil {
		m.set(e, httpMethod)
		return
	}
	if e := r.root.find(path[1:], 0, &m.values); e != nil {
		m.set(e, httpMethod)
		m.tenantParam()
	}
}

func (r *router) findTenant(httpMethod, rest []byte, m *match) {
	slash := bytes.IndexByte(rest, '/')
	if slash < 0 {
		return
	}
	path := rest[slash:]
	m.class = r.classOf(path)
	if !tenantSlug(rest[:slash]) {
		return
	}
	e := r.tenanted[string(path)]
	if e == nil {
		e = r.tenant.find(path[1:], 0, &m.values)
	}
	if e != nil {
		m.tenant = rest[:slash]
		m.set(e, httpMethod)
	}
}

func (m *match) set(e *endpoint, httpMethod []byte) {
	m.endpoint, m.class = e, e.methods[0].route.Class
	if string(httpMethod) == "HEAD" {
		httpMethod = httpMethod[:0]
	}
	for i := range e.methods {
		name := e.methods[i].name
		if string(httpMethod) == name || len(httpMethod) == 0 && name == "GET" {
			m.route = e.methods[i].route
			m.class = m.route.Class
		}
	}
}

// tenantParam takes the tenant from a segment {tenant} of an Also path.
func (m *match) tenantParam() {
	for i, name := range m.endpoint.params {
		if name != "tenant" {
			continue
		}
		if !tenantSlug(m.values[i]) {
			*m = match{}
			return
		}
		m.tenant = m.values[i]
	}
}

// firstSegment is "admin" of /admin/v1/clients, and of whatever else begins so without
// going on with a letter: it reads targets that are refused, too.
func firstSegment(path []byte) []byte {
	if len(path) == 0 || path[0] != '/' {
		return nil
	}
	path = path[1:]
	for i, b := range path {
		if !unreserved(b) {
			return path[:i]
		}
	}
	return path
}

// classOf tells whom a target is meant for that need not be well-formed: the class of
// the routes that begin like it, at the root or below /t/{tenant}.
func (r *router) classOf(target []byte) Class {
	if rest, below := bytes.CutPrefix(target, []byte("/t/")); below {
		target = rest[max(bytes.IndexByte(rest, '/'), 0):]
	}
	return r.classes[string(firstSegment(target))]
}

// find walks the tree: literals first, then {name}. Its depth is that of the table.
func (s *segment) find(path []byte, n int, values *[maxParams][]byte) *endpoint {
	head, rest := path, []byte(nil)
	last := true
	if i := bytes.IndexByte(path, '/'); i >= 0 {
		head, rest, last = path[:i], path[i+1:], false
	}
	if child := s.literal[string(head)]; child != nil {
		if last && child.endpoint != nil {
			return child.endpoint
		}
		if !last {
			if e := child.find(rest, n, values); e != nil {
				return e
			}
		}
	}
	if s.param == nil || len(head) == 0 || n >= maxParams {
		return nil
	}
	values[n] = head
	if last {
		return s.param.endpoint
	}
	return s.param.find(rest, n+1, values)
}

// tenantSlug says whether s may name a tenant in a path: 1 to 63 of a-z, 0-9 and
// dash, no dash at the ends, none of the names that mean something else. Names of
// the form "xn--" could look like another tenant once a browser shows them.
func tenantSlug(s []byte) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, b := range s {
		if b != '-' && (b < 'a' || b > 'z') && (b < '0' || b > '9') {
			return false
		}
	}
	switch string(s) {
	case defaultTenant, "t", "admin", "api", "devportal", "gateway", "internal", "livez",
		"metrics", "oauth2", "readyz", "root", "system", "well-known":
		return false
	}
	return len(s) < 4 || string(s[:4]) != "xn--"
}
