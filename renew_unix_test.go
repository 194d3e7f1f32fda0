//go:build unix

package bedrocktoken_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

var slow = flag.Bool("slow", false, "run the test that takes more than a minute")

const sourceVariable = "BEDROCKTOKEN_TEST_SOURCE"

// A process that was stopped for longer than a retrieval may take, while one is under
// way, takes the answer that lies in the socket. If there is none it asks again, also
// if it never runs for more than three seconds, as on a function platform.
func TestProcessIsStopped(t *testing.T) {
	if url := os.Getenv(sourceVariable); url != "" {
		callUntilServed(t, url)
		return
	}
	if !*slow {
		t.Skip("takes more than a minute: go test -run ProcessIsStopped . -slow")
	}
	for name, answersFirst := range map[string]bool{"answered": true, "not answered": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			asked := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 {
					close(asked)
					time.Sleep(200 * time.Millisecond)
					if !answersFirst {
						<-r.Context().Done()
						return
					}
				}
				json.NewEncoder(w).Encode(aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
			}))
			defer server.Close()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessIsStopped$", "-test.v")
			child.Env = append(os.Environ(), sourceVariable+"="+server.URL)
			output, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			served := make(chan string, 1)
			go func() {
				defer close(served)
				for lines := bufio.NewScanner(output); lines.Scan(); {
					if token, ok := strings.CutPrefix(lines.Text(), "token "); ok {
						served <- token
					}
				}
			}()
			<-asked
			child.Process.Signal(syscall.SIGSTOP)
			time.Sleep(65 * time.Second)
			child.Process.Signal(syscall.SIGCONT)
			slices, limit := 0, 1
			if !answersFirst {
				limit = 5
			}
			for ; slices < limit; slices++ {
				select {
				case token := <-served:
					signedBy(t, token, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
					if err := child.Wait(); err != nil {
						t.Error(err)
					}
					return
				case <-time.After(3 * time.Second):
				}
				child.Process.Signal(syscall.SIGSTOP)
				time.Sleep(4 * time.Second)
				child.Process.Signal(syscall.SIGCONT)
			}
			child.Process.Kill()
			t.Errorf("no token after %d times of three seconds", slices)
		})
	}
}

// callUntilServed prints the first token of a Provider whose source is url.
func callUntilServed(t *testing.T, url string) {
	provider := newProvider(t, aws.CredentialsProviderFunc(func(ctx context.Context) (creds aws.Credentials, err error) {
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return creds, err
		}
		defer response.Body.Close()
		return creds, json.NewDecoder(response.Body).Decode(&creds)
	}))
	for {
		if token, err := provider.Token(t.Context()); err == nil {
			fmt.Println("token", token)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
