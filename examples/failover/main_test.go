package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const (
	first  = "us-east-1"
	second = "us-west-2"
	path   = "/model/us.amazon.nova-lite-v1:0/converse"
	prompt = `{"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}`
)

var tenants = []tenant{
	{Name: "search", Key: "search key", Role: "arn:aws:iam::123456789012:role/search", ExternalID: "7f3a",
		Tags: map[string]string{"team": "search"}},
	{Name: "ads", Key: "ads key", Role: "arn:aws:iam::123456789012:role/ads"},
}

// A bedrock is one region's bedrock-runtime. It accepts the tokens of all tenants'
// roles, and answers as fakebedrock does unless handle is set.
type bedrock struct {
	*fakebedrock.Handler
	mu     sync.Mutex
	handle http.HandlerFunc
	bodies []string
}

func (b *bedrock) set(handle http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handle = handle
}

func (b *bedrock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	handle := b.handle
	b.bodies = append(b.bodies, string(body))
	b.mu.Unlock()
	if handle == nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		b.Handler.ServeHTTP(w, r)
		return
	}
	r.Body = http.NoBody
	b.Handler.ServeHTTP(httptest.NewRecorder(), r) // for its record
	handle(w, r)
}

// A world is a gateway between its tenants and two regions.
type world struct {
	sts           *clienttest.STS
	first, second *bedrock
	url           string
}

func newWorld(t *testing.T, answer func(context.Context, clienttest.AssumeRole) (aws.Credentials, error)) *world {
	t.Helper()
	log.SetOutput(t.Output())
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	clienttest.Isolate(t)
	w := &world{sts: clienttest.NewSTS(t, answer)}
	t.Setenv("AWS_ENDPOINT_URL_STS", w.sts.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "base secret")

	addresses := map[string]string{}
	newBedrock := func(region string) *bedrock {
		b := &bedrock{Handler: fakebedrock.NewHandler(verify.Service{
			Region: region,
			Secret: func(accessKeyID, sessionToken string) (string, error) {
				if sessionToken != "session-of-"+accessKeyID {
					return "", errors.New("not the session token of these keys")
				}
				return "secret-of-" + accessKeyID, nil
			},
		})}
		server := httptest.NewServer(b)
		t.Cleanup(func() {
			server.CloseClientConnections()
			server.Close()
		})
		addresses["bedrock-runtime."+region+".amazonaws.com:443"] = server.Listener.Addr().String()
		return b
	}
	w.first, w.second = newBedrock(first), newBedrock(second)
	base := &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addresses[address])
	}}
	t.Cleanup(base.CloseIdleConnections)
	client, err := newSTS(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGateway(t.Context(), client, tenants, first, second, base)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// roleCredentials gives out the credentials of the role that is asked for.
func roleCredentials(_ context.Context, request clienttest.AssumeRole) (aws.Credentials, error) {
	id := "ASIA" + strings.ToUpper(request.SessionName)
	return aws.Credentials{
		AccessKeyID: id, SecretAccessKey: "secret-of-" + id, SessionToken: "session-of-" + id,
		Expires: time.Now().Add(time.Hour),
	}, nil
}

// post sends a request as a tenant and returns the answer, and its body.
func (w *world) post(t *testing.T, key, body string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Api-Key", key) // TestStreamPassesAsItComes sends it as a bearer token
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(answer)
}

// requests returns how many requests each region received. All must have a token
// for the region, signed with the role of one of the tenants.
func (w *world) requests(t *testing.T) (ofFirst, ofSecond int) {
	t.Helper()
	for _, b := range []*bedrock{w.first, w.second} {
		for _, request := range b.Requests() {
			if request.Err != nil || !strings.HasPrefix(request.Token.AccessKeyID, "ASIA") {
				t.Errorf("%s: access key ID %q, refused: %v", request.Path, request.Token.AccessKeyID, request.Err)
			}
		}
	}
	return len(w.first.Requests()), len(w.second.Requests())
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func breakOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestSecondRegionServesWhatTheFirstCannot(t *testing.T) {
	for name, test := range map[string]struct {
		handle http.HandlerFunc
		second int
		status int
	}{
		"200":           {nil, 0, http.StatusOK},
		"429":           {status(http.StatusTooManyRequests), 1, http.StatusOK},
		"503":           {status(http.StatusServiceUnavailable), 1, http.StatusOK},
		"network error": {breakOff, 1, http.StatusOK},
		"400":           {status(http.StatusBadRequest), 0, http.StatusBadRequest},
		"403":           {status(http.StatusForbidden), 0, http.StatusForbidden},
		"500":           {status(http.StatusInternalServerError), 0, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, roleCredentials)
			w.first.set(test.handle)
			response, answer := w.post(t, "search key", prompt)
			if code := response.StatusCode; code != test.status || code == http.StatusOK && !strings.Contains(answer, fakebedrock.Answer) {
				t.Errorf("status %d, answer %q, want %d", code, answer, test.status)
			}
			if ofFirst, ofSecond := w.requests(t); ofFirst != 1 || ofSecond != test.second {
				t.Errorf("%d and %d requests, want 1 and %d", ofFirst, ofSecond, test.second)
			}
			if bodies := slices.Concat(w.first.bodies, w.second.bodies); slices.ContainsFunc(bodies, func(b string) bool { return b != prompt }) {
				t.Errorf("bodies %q", bodies)
			}
		})
	}
}

func TestSecondRegionIsTheLast(t *testing.T) {
	for want, handle := range map[int]http.HandlerFunc{
		http.StatusTooManyRequests: status(http.StatusTooManyRequests),
		http.StatusBadGateway:      breakOff,
	} {
		w := newWorld(t, roleCredentials)
		w.first.set(handle)
		w.second.set(handle)
		if response, answer := w.post(t, "search key", prompt); response.StatusCode != want {
			t.Errorf("status %d, answer %q, want %d", response.StatusCode, answer, want)
		}
		if ofFirst, ofSecond := w.requests(t); ofFirst != 1 || ofSecond != 1 {
			t.Errorf("%d and %d requests, want one each", ofFirst, ofSecond)
		}
	}
}

func TestOneAssumeRoleServesBothRegions(t *testing.T) {
	w := newWorld(t, roleCredentials)
	w.first.set(status(http.StatusTooManyRequests))
	for range 3 {
		for _, tenant := range tenants {
			if response, answer := w.post(t, tenant.Key, prompt); response.StatusCode != http.StatusOK {
				t.Errorf("%s: status %d, answer %q", tenant.Name, response.StatusCode, answer)
			}
		}
	}
	got := w.sts.Requests()
	if len(got) != len(tenants) {
		t.Fatalf("%d AssumeRole calls, want one for each tenant", len(got))
	}
	for i, tenant := range tenants {
		want := fmt.Sprint(tenant.Role, tenant.ExternalID, tenant.Name, "3600", len(tenant.Tags), tenant.Tags["team"])
		request := got[i]
		if got := fmt.Sprint(request.Role, request.ExternalID, request.SessionName, request.Seconds, len(request.Tags), request.Tags["team"]); got != want {
			t.Errorf("%s: STS was told %s, want %s", tenant.Name, got, want)
		}
	}
	for i, request := range w.second.Requests() {
		want := "ASIA" + strings.ToUpper(tenants[i%2].Name)
		if request.Token.AccessKeyID != want {
			t.Errorf("the token of request %d is signed with %s, want %s", i, request.Token.AccessKeyID, want)
		}
	}
}

func TestWithoutCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		sts           func() error
		status        int
		header, value string
	}{
		"refusal": {func() error { return errors.New("this role is not yours") }, http.StatusForbidden, "X-Should-Retry", "false"},
		"outage":  {func() error { panic(http.ErrAbortHandler) }, http.StatusServiceUnavailable, "Retry-After", "5"},
	} {
		w := newWorld(t, func(context.Context, clienttest.AssumeRole) (aws.Credentials, error) {
			return aws.Credentials{}, test.sts()
		})
		response, answer := w.post(t, "search key", prompt)
		if response.StatusCode != test.status || response.Header.Get(test.header) != test.value || strings.Contains(answer, "this role") {
			t.Errorf("%s: status %d, header %v, answer %q", name, response.StatusCode, response.Header, answer)
		}
		if ofFirst, ofSecond := w.requests(t); ofFirst+ofSecond != 0 {
			t.Errorf("%s: %d and %d requests, want none", name, ofFirst, ofSecond)
		}
	}
}

// A request that STS never answers is given up, and delays no other tenant.
func TestUnansweredRequestIsGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for 10 seconds")
	}
	var asked atomic.Bool
	w := newWorld(t, func(ctx context.Context, request clienttest.AssumeRole) (aws.Credentials, error) {
		if request.SessionName == "search" && !asked.Swap(true) {
			<-ctx.Done()
		}
		return roleCredentials(ctx, request)
	})
	served := make(chan string, len(tenants))
	for _, tenant := range tenants {
		go func() {
			if response, _ := w.post(t, tenant.Key, prompt); response.StatusCode != http.StatusOK {
				t.Errorf("%s: status %d", tenant.Name, response.StatusCode)
			}
			served <- tenant.Name
		}()
	}
	if order := <-served + ", " + <-served; order != "ads, search" {
		t.Errorf("served in the order %s", order)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func TestNoSecondTryWhereItCannotHelp(t *testing.T) {
	for name, first := range map[string]func(end func()) error{
		"end of the context": func(end func()) error { end(); return io.ErrUnexpectedEOF },
		"no credentials":     func(func()) error { return fmt.Errorf("%w: signed out", bedrocktoken.ErrCredentials) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var want error
		f := failover{
			first: region{"first", roundTripper(func(*http.Request) (*http.Response, error) {
				want = first(cancel)
				return nil, want
			})},
			second: region{"second", roundTripper(func(*http.Request) (*http.Response, error) {
				return nil, errors.New("the second region was tried")
			})},
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://first", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.RoundTrip(request); err != want {
			t.Errorf("%s: error %v, want the first region's", name, err)
		}
	}
}

func TestStreamPassesAsItComes(t *testing.T) {
	w := newWorld(t, roleCredentials)
	w.first.set(status(http.StatusServiceUnavailable))
	arrived := make(chan struct{})
	w.second.set(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
		w.Header().Set("Content-Length", "24") // ReverseProxy passes on at once what has none
		for i := range 3 {
			fmt.Fprintf(w, "event %d\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-arrived:
			case <-r.Context().Done(): // the client, which waits no longer
				return
			}
		}
	})
	client := &http.Client{Timeout: 10 * time.Second}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+path+"-stream", strings.NewReader(prompt))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer search key")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	part := make([]byte, len("event 0\n"))
	for i := range 3 {
		if _, err := io.ReadFull(response.Body, part); err != nil || string(part) != fmt.Sprintf("event %d\n", i) {
			t.Fatalf("part %d: %q, error %v", i, part, err)
		}
		arrived <- struct{}{}
	}
}

func TestGatewayRefuses(t *testing.T) {
	w := newWorld(t, roleCredentials)
	for name, test := range map[string]struct {
		key, body string
		want      int
	}{
		"no key":        {"", prompt, http.StatusUnauthorized},
		"unknown key":   {"search keys", prompt, http.StatusUnauthorized},
		"too long body": {"search key", strings.Repeat(" ", maxBody+1), http.StatusRequestEntityTooLarge},
	} {
		if response, answer := w.post(t, test.key, test.body); response.StatusCode != test.want {
			t.Errorf("%s: status %d, answer %q, want %d", name, response.StatusCode, answer, test.want)
		}
	}
	if ofFirst, ofSecond := w.requests(t); ofFirst+ofSecond+len(w.sts.Requests()) != 0 {
		t.Error("a refused request was passed on")
	}
}

func TestBadRegionsAreRefused(t *testing.T) {
	clienttest.Isolate(t)
	for _, regions := range [][2]string{{"", second}, {first, ""}, {first, "US West"}} {
		if _, err := newGateway(t.Context(), nil, tenants, regions[0], regions[1], nil); !errors.Is(err, bedrocktoken.ErrRegion) {
			t.Errorf("%q: error %v, want ErrRegion", regions, err)
		}
	}
}

func TestReadTenants(t *testing.T) {
	for text, want := range map[string]string{
		`[{"name": "a", "key": "k", "role": "r", "externalID": "x", "tags": {"b": "c"}}]`: "",
		`[]`: "no tenants",
		`{`:  "JSON",
		`[{"name": "a", "key": "", "role": "r"}]`:                                          "tenant 1 has no",
		`[{"name": "a", "key": "k"}]`:                                                      "tenant 1 has no",
		`[{"name": "a", "key": "k", "role": "r"}, {"name": "b", "key": "k", "role": "s"}]`: "tenant b has the key of another",
	} {
		file := filepath.Join(t.TempDir(), "tenants.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tenants, err := readTenants(file)
		if want == "" {
			if err != nil || len(tenants) != 1 || fmt.Sprint(tenants[0]) != "{a k r x map[b:c]}" {
				t.Errorf("%s: %v, error %v", text, tenants, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
}
