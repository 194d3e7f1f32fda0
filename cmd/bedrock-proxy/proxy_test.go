package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// The path decides where a request goes.
func TestRoutes(t *testing.T) {
	const (
		runtime = "https://bedrock-runtime.us-west-2.amazonaws.com"
		mantle  = "https://bedrock-mantle.us-west-2.api.aws"
		control = "https://bedrock.us-west-2.amazonaws.com"
		nowhere = ""
	)
	var sent string
	s := &site{}
	s.start(t, newProxy(newProvider(t, &source{}), "", nil, "", awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		sent = r.URL.String()
		if r.Host != "" && r.Host != r.URL.Host {
			t.Errorf("the Host is %q", r.Host)
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("Bedrock")), Request: r}, nil
	})))

	tests := map[string]string{
		"/runtime/model/amazon.nova-lite-v1%3A0/converse?a=b%20c": runtime + "/model/amazon.nova-lite-v1%3A0/converse?a=b%20c",
		"/runtime/model/a:0/converse":                             runtime + "/model/a:0/converse",
		"/runtime/openai/v1/responses":                            runtime + "/openai/v1/responses",
		"/runtime/anthropic/v1/messages":                          runtime + "/anthropic/v1/messages",
		"/runtime/v1/messages":                                    runtime + "/v1/messages",
		"/runtime/guardrail/x/version/1/apply":                    runtime + "/guardrail/x/version/1/apply",
		"/runtime/mantle/v1/models":                               runtime + "/mantle/v1/models",
		"/runtime//model/x":                                       runtime + "//model/x",
		"/runtime//evil.example/model/x":                          runtime + "//evil.example/model/x",
		"/runtime/":                                               runtime + "/",
		"/runtime/a%2Fb%2f~!c%20/":                                runtime + "/a%2Fb%2f~!c%20/",
		"/runtime/%2Fmodel":                                       runtime + "/%2Fmodel",
		"/runtime/*":                                              runtime + "/*",
		"/mantle/v1/responses":                                    mantle + "/v1/responses",
		"/mantle/v1/messages":                                     mantle + "/v1/messages",
		"/mantle/openai/v1/responses?a":                           mantle + "/openai/v1/responses?a",
		"/mantle/anthropic/v1/messages":                           mantle + "/anthropic/v1/messages",
		"/mantle/?x":                                              mantle + "/?x",
		"/control/guardrails":                                     control + "/guardrails",
		"/control/foundation-models/a%3A0":                        control + "/foundation-models/a%3A0",

		"/v1/messages":               mantle + "/anthropic/v1/messages",
		"/v1/messages?beta=true":     mantle + "/anthropic/v1/messages?beta=true",
		"/v1/messages/":              mantle + "/anthropic/v1/messages/",
		"/v1/messages/count_tokens":  mantle + "/anthropic/v1/messages/count_tokens",
		"/v1/messages/batches/a%2Fb": mantle + "/anthropic/v1/messages/batches/a%2Fb",
	}
	for path, host := range map[string]string{ // these paths stay as they are
		"/model/amazon.nova-lite-v1:0/converse":                    runtime,
		"/model/amazon.nova-lite-v1%3A0/converse-stream?a=b%20c":   runtime,
		"/model/arn:aws:bedrock:us-west-2:1:inference-profile%2Fx": runtime,
		"/model/":                                  runtime,
		"/guardrail/x/version/DRAFT/apply":         runtime,
		"/async-invoke":                            runtime,
		"/async-invoke?maxResults=1":               runtime,
		"/async-invoke/arn%3Aaws":                  runtime,
		"/openai/v1/chat/completions":              runtime,
		"/openai/v1":                               runtime,
		"/v1/models":                               mantle,
		"/v1/chat/completions":                     mantle,
		"/v1/models/a..b/.c/d.":                    mantle,
		"/v1//models":                              mantle,
		"/v1//messages":                            mantle,
		"/v1/messagesx":                            mantle,
		"/v1/messages%2Fcount_tokens":              mantle,
		"/v1/%6dessages":                           mantle,
		"/anthropic/v1/messages":                   mantle,
		"/foundation-models":                       control,
		"/foundation-models?byProvider=anthropic":  control,
		"/foundation-models/amazon.nova-lite-v1:0": control,
		"/inference-profiles":                      control,
		"/inference-profiles/":                     control,
		"/inference-profiles/a%2Fb":                control,
	} {
		tests[path] = host + path
	}
	for _, path := range []string{
		"/",
		"/model",
		"/guardrail",
		"/guardrails",
		"/guardrails/x",
		"/openai",
		"/v1",
		"/v1?x=/v1/",
		"/v10/models",
		"/V1/models",
		"/foundation-models-x",
		"/foundation-models%2Fx",
		"/inference-profilesx",
		"/async-invokes",
		"/messages",
		"/x/model/y",
		"//model/x",
		"//evil.example/v1/models",
		"/%761/models",
		"/v1%2Fmodels",
		"/./v1/models",
		"/v1/../model/x",
		"/v1/messages/../models",
		"/model/..",
		"/model/.",
		"/model/%2e%2E/v1/models",
		"/model/.%2e/v1/models",
		"/model/..%2fv1/models",
		"/model/x%2f..%2f..%2fv1/models",
		`/model/..%5Cv1/models`,
		`/model/..\v1/models`,
		"/model/..;/v1/models",
		"/model/..%3Bx/v1/models",
		"/foundation-models/../model/x",
		"/inference-profiles/%2e%2e/model",

		"/runtime",
		"/mantle",
		"/mantle?x=/",
		"/control",
		"/mantleful/v1/models",
		"/mantle-/v1/models",
		"/mantle:443/v1/models",
		"/mantle%2Fv1/models",
		"/mantl%65/v1/models",
		"/Mantle/v1/models",
		"//mantle/v1/models",
		`/mantle\v1/models`,
		"/x/mantle/v1/models",
		"/mantle/..",
		"/mantle/.",
		"/mantle/./v1/models",
		"/mantle/../model/x",
		"/mantle//../model/x",
		"/mantle/v1/../../model/x",
		"/mantle/%2e%2e/model/x",
		"/mantle/.%2E/model/x",
		"/mantle/%2e/v1/models",
		"/mantle/..%2fmodel/x",
		"/mantle/v1%2f..%2fmodels",
		`/mantle/..%5cmodel/x`,
		`/mantle/..\model/x`,
		`/mantle/v1\..\models`,
		"/mantle/..;/model/x",
		"/mantle/..%3b/model/x",
		"/runtime/../mantle/v1/models",
	} {
		tests[path] = nowhere
	}
	for path, want := range tests {
		t.Run(path, func(t *testing.T) {
			sent = ""
			response := s.raw(t, "POST "+path+" HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n")
			if want == nowhere {
				message := failure(t, response, http.StatusNotFound)
				for _, route := range routes {
					if !strings.Contains(message, route.prefix) {
						t.Errorf("%s is missing in %q", route.prefix, message)
					}
				}
				if sent != "" {
					t.Errorf("sent to %s", sent)
				}
				return
			}
			if body := read(t, response); response.StatusCode != http.StatusOK || body != "Bedrock" {
				t.Errorf("%d %s", response.StatusCode, body)
			}
			if sent != want {
				t.Errorf("sent to %s, want %s", sent, want)
			}
		})
	}
}

// An endpoint on another host takes all requests and gets tokens too.
func TestEndpointElsewhere(t *testing.T) {
	for path, want := range map[string]string{
		"/model/a:0/converse": "https://Gateway.example.com:8443/bedrock/model/a:0/converse",
		"/v1/models":          "https://Gateway.example.com:8443/bedrock/v1/models",
		"/foundation-models":  "https://Gateway.example.com:8443/bedrock/foundation-models",

		// An endpoint sees the paths that Bedrock's would.
		"/runtime/model/a:0/converse":     "https://Gateway.example.com:8443/bedrock/model/a:0/converse",
		"/mantle/v1/models":               "https://Gateway.example.com:8443/bedrock/v1/models",
		"/control/foundation-models/a%2F": "https://Gateway.example.com:8443/bedrock/foundation-models/a%2F",
		"/v1/messages":                    "https://Gateway.example.com:8443/bedrock/anthropic/v1/messages",
	} {
		var sent string
		s := &site{}
		s.start(t, newProxy(newProvider(t, &source{}), "", mustParse(t, "https://Gateway.example.com:8443/bedrock"), "", awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			sent = r.URL.String()
			token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if _, err := service.Verify(token); err != nil {
				t.Error(err)
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
		})))
		if response := s.do(t, "GET", path); response.StatusCode != http.StatusOK || sent != want {
			t.Errorf("%s: %d %s, sent to %s", path, response.StatusCode, read(t, response), sent)
		}
	}
}

// Paths and queries arrive byte for byte, with an endpoint's own path before them.
func TestEscapes(t *testing.T) {
	const arn = "arn%3aaws%3Abedrock:us-west-2:123456789012:application-inference-profile%2Fabc"
	for _, path := range []string{
		"/model/us.anthropic.claude-haiku-4-5-20251001-v1:0/invoke",
		"/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/invoke",
		"/model/us.anthropic.claude-haiku-4-5-20251001-v1%3a0/invoke",
		"/model/" + arn + "/converse-stream",
		"/model/a%20b+c%25d%C3%A9~!$&'()*,;=@%5B%5D/converse",
		"/v1//files/",
		"/foundation-models?byProvider=a%20b+c&x=%2F&y&=&z=:/",
		"/inference-profiles/" + arn + "?",
	} {
		for _, base := range []string{"", "/", "/gateway", "/gate%2Fway:1/"} {
			for _, prefix := range []string{"", "/runtime", "/mantle", "/control"} {
				t.Run(base+prefix+path, func(t *testing.T) {
					var arrived string
					bedrock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { arrived = r.RequestURI }))
					defer bedrock.Close()
					response := siteOf(t, bedrock.URL+base).raw(t, "GET "+prefix+path+" HTTP/1.1\nHost: 127.0.0.1\n\n")
					if response.StatusCode != http.StatusOK {
						t.Error(response.Status)
					}
					if want := strings.TrimSuffix(base, "/") + path; arrived != want {
						t.Errorf("got %s, want %s", arrived, want)
					}
				})
			}
		}
	}
}

// A web page that makes its own name lead to this machine is refused, whatever it asks.
func TestHost(t *testing.T) {
	for host, allowed := range map[string]bool{
		"localhost":                       true,
		"localhost:8484":                  true,
		"LocalHost:1":                     true,
		"127.0.0.1":                       true,
		"127.0.0.1:8484":                  true,
		"127.255.0.9:80":                  true,
		"[::1]":                           true,
		"[::1]:8484":                      true,
		"evil.example":                    false,
		"evil.example:8484":               false,
		"localhost.evil.example":          false,
		"127.0.0.1.evil.example":          false,
		"evil.example:127.0.0.1":          false,
		"127.0.0.1:x":                     false,
		"localhost.":                      false,
		"sub.localhost":                   false,
		"0.0.0.0:8484":                    false,
		"[::]:8484":                       false,
		"192.168.0.1:8484":                false,
		"169.254.169.254":                 false,
		"2130706433":                      false,
		"[::1]evil.example":               false,
		"bedrock.us-west-2.amazonaws.com": false,
	} {
		for _, request := range []string{"GET /v1/models", "POST /v1/messages", "OPTIONS /v1/models", "GET /"} {
			if allowed && request == "GET /" {
				continue
			}
			t.Run(request+" "+host, func(t *testing.T) {
				s := newSite(t, "", ok)
				response := s.raw(t, request+" HTTP/1.1\nHost: "+host+"\nContent-Length: 0\n\n")
				if allowed {
					s.served(t, response)
				} else if message := s.refused(t, response, http.StatusForbidden); !strings.Contains(message, host) {
					t.Errorf("message %q", message)
				}
			})
		}
	}
	t.Run("none", func(t *testing.T) {
		s := newSite(t, "", ok)
		s.refused(t, s.raw(t, "GET /v1/models HTTP/1.0\n\n"), http.StatusForbidden)
	})
}

// A browser that says that another site asks is refused, even if it only reads.
func TestOrigin(t *testing.T) {
	for _, test := range []struct {
		name    string
		header  []string
		allowed bool
	}{
		{"not a browser", nil, true},
		{"typed by the person", []string{"Sec-Fetch-Site", "none"}, true},
		{"this origin", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:8484"}, true},
		{"this origin, old browser", []string{"Origin", "http://127.0.0.1:8484"}, true},
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"another site with an origin", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		{"another port of this machine", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:3000"}, false},
		{"another site, old browser", []string{"Origin", "https://evil.example"}, false},
		{"another port, old browser", []string{"Origin", "http://127.0.0.1:3000"}, false},
		{"a file or a frame", []string{"Origin", "null"}, false},
	} {
		for _, method := range []string{"GET", "OPTIONS", "POST", "DELETE"} {
			t.Run(method+" "+test.name, func(t *testing.T) {
				s := newSite(t, "", ok)
				response := s.do(t, method, "/v1/models", append(test.header, "Host", "127.0.0.1:8484")...)
				if test.allowed {
					s.served(t, response)
				} else {
					s.refused(t, response, http.StatusForbidden)
				}
			})
		}
	}
}

// Callers without the key get nothing, not even a look for credentials.
func TestKey(t *testing.T) {
	for _, test := range []struct {
		name    string
		header  []string
		allowed bool
	}{
		{"bearer token", []string{"Authorization", "Bearer " + proxyKey}, true},
		{"bearer token, another case", []string{"Authorization", "bearer " + proxyKey}, true},
		{"X-Api-Key", []string{"X-Api-Key", proxyKey}, true},
		{"both", []string{"Authorization", "Bearer " + proxyKey, "X-Api-Key", proxyKey}, true},
		{"one of two", []string{"Authorization", "Bearer x", "X-Api-Key", proxyKey}, true},
		{"none", nil, false},
		{"empty", []string{"Authorization", "Bearer ", "X-Api-Key", ""}, false},
		{"another", []string{"Authorization", "Bearer x", "X-Api-Key", "x"}, false},
		{"the beginning", []string{"X-Api-Key", proxyKey[:5]}, false},
		{"more", []string{"X-Api-Key", proxyKey + "x"}, false},
		{"another case", []string{"X-Api-Key", strings.ToUpper(proxyKey)}, false},
		{"without a scheme", []string{"Authorization", proxyKey}, false},
		{"basic", []string{"Authorization", "Basic " + proxyKey}, false},
		{"elsewhere", []string{"Cookie", proxyKey, "Api-Key", proxyKey}, false},
	} {
		for _, path := range []string{"/v1/models", "/nowhere"} {
			if test.allowed && path == "/nowhere" {
				continue
			}
			t.Run(test.name+" "+path, func(t *testing.T) {
				s := newSite(t, proxyKey, ok)
				response := s.do(t, "POST", path, test.header...)
				if test.allowed {
					s.served(t, response)
					return
				}
				s.refused(t, response, http.StatusUnauthorized)
				if got := response.Header.Get("WWW-Authenticate"); got != "Bearer" {
					t.Errorf("WWW-Authenticate: %s", got)
				}
			})
		}
	}
	t.Run("no key is wanted", func(t *testing.T) {
		s := newSite(t, "", ok)
		s.served(t, s.do(t, "POST", "/v1/models", "X-Api-Key", "dummy"))
	})
}

// What a caller authenticates with stays here, and the rest travels on; a cookie
// of Bedrock's stays there.
func TestCallersCredentials(t *testing.T) {
	s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "AWSALB=x")
		w.Header().Set("X-Amzn-Requestid", "1")
		ok(w, r)
	})
	response := s.do(t, "POST", "/v1/responses?a=%20&X-Amz-Signature="+callersOwn+"&b&X-Amz-Credential="+callersOwn+
		"&x%2Damz-security-token="+callersOwn+"&X-Amzn-x=kept&c=d",
		"Authorization", "Bearer "+callersOwn,
		"Proxy-Authorization", "Basic "+callersOwn,
		"X-Api-Key", callersOwn,
		"Api-Key", callersOwn,
		"Cookie", "session="+callersOwn,
		"Cookie", "other="+callersOwn,
		"X-Amz-Security-Token", callersOwn,
		"X-Amz-Date", callersOwn,
		"X-Amz-Content-Sha256", callersOwn,
		"Forwarded", "for="+callersOwn,
		"X-Forwarded-For", callersOwn,
		"X-Forwarded-Host", callersOwn,
		"X-Hop", callersOwn,
		"Connection", "X-Hop, Anthropic-Beta",
		"X-Amzn-Bedrock-Trace", "ENABLED",
		"Openai-Project", "project",
		"Anthropic-Version", "2023-06-01",
		"User-Agent", "test",
	)
	s.served(t, response)
	if response.Header.Get("Set-Cookie") != "" || response.Header.Get("X-Amzn-Requestid") != "1" {
		t.Errorf("headers of the answer: %v", response.Header)
	}
	arrived := s.arrived()[0]
	if got, want := arrived.URL.RawQuery, "a=%20&b&X-Amzn-x=kept&c=d"; got != want {
		t.Errorf("query %s, want %s", got, want)
	}
	arrived.Header.Del("Content-Length")
	want := http.Header{
		"X-Amzn-Bedrock-Trace": {"ENABLED"}, "Openai-Project": {"project"},
		"Anthropic-Version": {"2023-06-01"}, "User-Agent": {"test"},
	}
	for name := range arrived.Header {
		if !slices.Equal(arrived.Header[name], want[name]) {
			t.Errorf("%s: %q arrived", name, arrived.Header[name])
		}
	}
	for name := range want {
		if arrived.Header[name] == nil {
			t.Errorf("%s did not arrive", name)
		}
	}
}

// Trailers are no way around it.
func TestCallersTrailers(t *testing.T) {
	s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if strings.Contains(fmt.Sprint(r.Trailer, r.Header), callersOwn) {
			t.Errorf("trailers %v", r.Trailer)
		}
		ok(w, r)
	})
	s.served(t, s.raw(t, "POST /v1/responses HTTP/1.1\nHost: localhost\nTrailer: Authorization, X-Api-Key\nTransfer-Encoding: chunked\n\n"+
		"2\n{}\n0\nAuthorization: Bearer "+callersOwn+"\nX-Api-Key: "+callersOwn+"\n\n"))
}

// Nothing is added that the caller's client does not know of.
func TestNothingAdded(t *testing.T) {
	s := newSite(t, "", ok)
	s.served(t, s.raw(t, "GET /v1/models HTTP/1.1\nHost: localhost\n\n"))
	if header := s.arrived()[0].Header; len(header) != 0 {
		t.Errorf("headers %v", header)
	}
}

// It is a way to Bedrock, and to nothing else.
func TestNoForwardProxy(t *testing.T) {
	for request, status := range map[string]int{
		"GET http://evil.example/v1/models HTTP/1.1\nHost: evil.example\n\n":     http.StatusForbidden,
		"GET http://evil.example/v1/models HTTP/1.1\nHost: localhost\n\n":        http.StatusForbidden,
		"GET http://localhost:9999/v1/models HTTP/1.1\nHost: localhost:9999\n\n": http.StatusBadRequest,
		"GET http://u:p@localhost/v1/models HTTP/1.1\nHost: localhost\n\n":       http.StatusBadRequest,
		"CONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443\n\n":          http.StatusForbidden,
		"CONNECT localhost:443 HTTP/1.1\nHost: localhost:443\n\n":                http.StatusBadRequest,
		"CONNECT /v1/models HTTP/1.1\nHost: localhost\n\n":                       http.StatusBadRequest,
		"TRACE /v1/models HTTP/1.1\nHost: localhost\n\n":                         http.StatusBadRequest,
		"OPTIONS * HTTP/1.1\nHost: localhost\n\n":                                http.StatusNotFound,
	} {
		t.Run(request, func(t *testing.T) {
			s := newSite(t, "", ok)
			s.refused(t, s.raw(t, request), status)
		})
	}
}

// Java's client offers HTTP/2 with every request to an http address. An offer need
// not be taken up, nor be passed on.
func TestUpgrade(t *testing.T) {
	for _, header := range []string{
		"Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAA",
		"Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" || r.Header.Get("Http2-Settings") != "" {
				t.Errorf("headers %v", r.Header)
			}
			ok(w, r)
		})
		s.served(t, s.raw(t, "GET /v1/models HTTP/1.1\nHost: localhost\n"+header+"\n\n"))
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	stranger := httptest.NewTLSServer(http.HandlerFunc(ok)) // whose certificate nobody trusts
	defer stranger.Close()

	for name, test := range map[string]struct{ endpoint, says string }{
		"nobody listens": {"http://" + address, "dial tcp"},
		"a stranger":     {stranger.URL, "certificate"},
		"not HTTP":       {"http://" + answerWith(t, callersOwn+"\r\n\r\n"), "no valid answer"},
		"a bad header":   {"http://" + answerWith(t, "HTTP/1.1 200 OK\r\nAuthorization Bearer "+callersOwn+"\r\n\r\n"), "no valid answer"},
		"no answer":      {"http://" + answerWith(t, ""), "127.0.0.1"},
		"a switch":       {"http://" + answerWith(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), "no valid answer"},
	} {
		t.Run(name, func(t *testing.T) {
			message := failure(t, siteOf(t, test.endpoint).do(t, "POST", "/v1/responses"), http.StatusBadGateway)
			if !strings.Contains(message, test.says) {
				t.Errorf("message %q, want %q in it", message, test.says)
			}
		})
	}
}

// A region that Bedrock cannot have is an error that names the address.
func TestImpossibleRegion(t *testing.T) {
	s := &site{source: &source{}}
	provider, err := bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithRegion("nowhere"), bedrocktoken.WithCredentialsProvider(s.source))
	if err != nil {
		t.Fatal(err)
	}
	s.start(t, newProxy(provider, "", nil, "", newTransport()))
	message := s.refused(t, s.do(t, "POST", "/model/x/invoke"), http.StatusBadGateway)
	if !strings.Contains(message, "bedrock-runtime.nowhere.amazonaws.com") || !strings.Contains(message, bedrocktoken.ErrEndpoint.Error()) {
		t.Errorf("message %q", message)
	}
}

// answerWith returns the address of a server that answers each connection so.
func answerWith(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, answer)
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// Without credentials the proxy says so, in a way that makes no tool try again for
// minutes, and serves as soon as there are some.
func TestNoCredentials(t *testing.T) {
	for name, cause := range map[string]error{
		"none":             errors.New("nobody has signed in"),
		"a refusal":        &smithy.GenericAPIError{Code: "ExpiredTokenException", Message: "nobody has signed in"},
		"a status of 400":  status(http.StatusBadRequest),
		"a status of 403":  status(http.StatusForbidden),
		"an invalid grant": fmt.Errorf("nobody has signed in: %w", status(http.StatusUnauthorized)),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "", ok)
			s.source.fail(cause)
			response := s.do(t, "POST", "/v1/responses")
			if message := failure(t, response, http.StatusForbidden); message != "bedrock-proxy: "+explained(t, cause) {
				t.Errorf("message %q", message)
			}
			if header := response.Header; header.Get("X-Should-Retry") != "false" || header["Retry-After"] != nil {
				t.Errorf("headers %v", header)
			}
			if len(s.arrived()) != 0 {
				t.Error("a request arrived")
			}
			s.source.fail(nil)
			s.served(t, s.do(t, "POST", "/v1/responses"))
		})
	}
}

// A source that is out of order for the moment is worth another try.
func TestOutage(t *testing.T) {
	for name, cause := range map[string]error{
		"no connection":   &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")},
		"no answer":       context.DeadlineExceeded,
		"a status of 503": status(http.StatusServiceUnavailable),
		"a status of 429": status(http.StatusTooManyRequests),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "", ok)
			s.source.fail(cause)
			response := s.do(t, "POST", "/v1/responses")
			if message := failure(t, response, http.StatusServiceUnavailable); message != "bedrock-proxy: "+explained(t, cause) {
				t.Errorf("message %q", message)
			}
			if header := response.Header; header.Get("Retry-After") != "5" || header["X-Should-Retry"] != nil {
				t.Errorf("headers %v", header)
			}
			s.source.fail(nil)
			s.served(t, s.do(t, "POST", "/v1/responses"))
		})
	}
}

// A status is the answer of a source with that status.
type status int

func (s status) Error() string       { return fmt.Sprintf("the source answered with status %d", int(s)) }
func (s status) HTTPStatusCode() int { return int(s) }

// explained returns what the commands say if credentials fail with cause.
func explained(t *testing.T, cause error) string {
	t.Helper()
	s := &source{}
	s.fail(cause)
	_, err := newProvider(t, s).Token(t.Context())
	return explain.Error(err, "")
}

// Bedrock's own refusals are the caller's to see.
func TestRefusal(t *testing.T) {
	s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"message": "no"}`)
	})
	response := s.do(t, "POST", "/v1/responses")
	if body := read(t, response); response.StatusCode != http.StatusForbidden || body != `{"message": "no"}` || response.Header.Get("X-Amzn-Errortype") == "" {
		t.Errorf("%s %v %s", response.Status, response.Header, body)
	}
}

// Each piece of an answer arrives before the next is sent.
func TestStream(t *testing.T) {
	const events, event = 20, "data: {\"type\": \"event\"}\n\n"
	for name, header := range map[string]http.Header{
		"server-sent events":      {"Content-Type": {"text/event-stream"}},
		"AWS's event stream":      {"Content-Type": {"application/vnd.amazon.eventstream"}},
		"of a length known ahead": {"Content-Type": {"application/octet-stream"}, "Content-Length": {fmt.Sprint(events * len(event))}},
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan struct{})
			s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
				for name, values := range header {
					w.Header()[name] = values
				}
				for range events {
					io.WriteString(w, event)
					w.(http.Flusher).Flush()
					select {
					case <-seen:
					case <-r.Context().Done():
						return
					}
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/responses", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			response, err := (&http.Client{Transport: s.client}).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			buffer := make([]byte, len(event))
			for i := range events {
				if _, err := io.ReadFull(response.Body, buffer); err != nil || string(buffer) != event {
					t.Fatalf("event %d: %q, %v", i, buffer, err)
				}
				seen <- struct{}{}
			}
			if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}

// An answer arrives even if Bedrock does not wait for the whole request.
func TestEarlyAnswer(t *testing.T) {
	s := newSite(t, "", ok)
	s.served(t, s.raw(t, "POST /v1/responses HTTP/1.1\nHost: localhost\nContent-Length: 1000\n\n{"))
}

// A caller can go on with its connection after an error for which its body was
// not read.
func TestConnectionAfterError(t *testing.T) {
	logs.take()
	s := newSite(t, "", ok)
	s.source.fail(errors.New("nobody has signed in"))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	reader := bufio.NewReader(conn)
	for range 3 {
		io.WriteString(conn, "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("%v, and the log:\n%.1000s", err, logs.take())
		}
		failure(t, response, http.StatusForbidden)
	}
}

// A stream that Bedrock breaks off is broken off here too, and not made to look complete.
func TestBrokenStream(t *testing.T) {
	s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: {}\n\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	response := s.do(t, "POST", "/v1/responses")
	if body, err := io.ReadAll(response.Body); err == nil || string(body) != "data: {}\n\n" {
		t.Errorf("%q, %v", body, err)
	}
}

// The log does not quote what is wrong with an answer.
func TestLogOfBrokenAnswer(t *testing.T) {
	logs.take()
	s := siteOf(t, "http://"+answerWith(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nCookie "+callersOwn+"\r\n\r\n"))
	if body, err := io.ReadAll(s.do(t, "POST", "/v1/responses").Body); err == nil {
		t.Errorf("%q passes for an answer", body)
	}
	s.close() // which waits
	if text := logs.take(); strings.Count(text, "\n") != 1 || strings.Contains(text, callersOwn) {
		t.Errorf("the log:\n%s", text)
	}
}

// When a caller goes away, so does its request to Bedrock.
func TestCallerGoesAway(t *testing.T) {
	for name, test := range map[string]struct {
		answered bool
		status   string
	}{
		"before the answer": {false, "499"},
		"in the middle":     {true, "200"},
	} {
		t.Run(name, func(t *testing.T) {
			logs.take()
			arrived, ended := make(chan struct{}), make(chan struct{})
			s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				close(arrived)
				if test.answered {
					w.Header().Set("Content-Type", "text/event-stream")
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
				close(ended)
			})
			ctx, cancel := context.WithCancel(t.Context())
			request, err := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/responses", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-arrived
				if !test.answered {
					cancel()
				}
			}()
			response, err := s.client.RoundTrip(request)
			if (err == nil) != test.answered {
				t.Fatal(err)
			}
			cancel()
			if err == nil {
				response.Body.Close()
			}
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Fatal("Bedrock still works for nobody")
			}
			s.close() // which waits
			if line := logs.take(); !strings.Contains(line, `POST "/v1/responses" `+test.status) {
				t.Errorf("log %q", line)
			}
		})
	}
}

func TestLargeBodies(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, want) || r.ContentLength != int64(len(want)) {
			t.Errorf("%d bytes arrived, %d announced: %v", len(got), r.ContentLength, err)
		}
		w.Write(got)
	})
	response, err := (&http.Client{Transport: s.client}).Post(s.url+"/model/x/invoke", "application/json", bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
}

// The log has a line for each request, with nothing in it that is secret or forged.
func TestLog(t *testing.T) {
	logs.take()
	s := newSite(t, proxyKey, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Secret", callersOwn)
		if r.URL.Path == "/v1/created" {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusCreated)
		}
		io.WriteString(w, callersOwn)
	})
	for _, path := range []string{"/v1/created", "/v1/a%0Ab%1b[1m%22", "/nowhere"} {
		s.do(t, "POST", path+"?secret="+callersOwn, "X-Api-Key", proxyKey, "X-Secret", callersOwn)
	}
	s.do(t, "GET", "/v1/models", "X-Api-Key", callersOwn)
	s.do(t, "GET", "/v1/models", "Host", callersOwn)
	s.do(t, "GET", "/"+strings.Repeat("x", 10_000), "X-Api-Key", proxyKey)
	s.raw(t, "GET http://"+callersOwn+":"+callersOwn+"@localhost/v1/models HTTP/1.1\nHost: localhost\nX-Api-Key: "+proxyKey+"\n\n")
	s.raw(t, strings.Repeat("X", 1000)+" /nowhere HTTP/1.1\nHost: localhost\nX-Api-Key: "+proxyKey+"\n\n")
	s.close() // which waits
	text := logs.take()
	var got []string // without date and duration
	line := regexp.MustCompile(`^[0-9/]+ [0-9:]+ (.*) [0-9.µm]+s$`)
	for text := range strings.Lines(text) {
		if match := line.FindStringSubmatch(strings.TrimSpace(text)); match != nil {
			got = append(got, match[1])
		} else {
			t.Errorf("line %q", text)
		}
	}
	want := []string{
		`GET "/` + strings.Repeat("x", 499) + `" 404`,
		`GET "/v1/models" 400`,
		`GET "/v1/models" 401`,
		`GET "/v1/models" 403`,
		strings.Repeat("X", 20) + ` "/nowhere" 404`,
		`POST "/nowhere" 404`,
		`POST "/v1/a%0Ab%1b[1m%22" 200`,
		`POST "/v1/created" 201`,
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, secret := range []string{callersOwn, proxyKey, secretKey, url.QueryEscape(session), "bedrock-api-key-"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows %s:\n%s", secret, text)
		}
	}
}
