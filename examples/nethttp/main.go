// Nethttp calls Converse with net/http alone and sets the Authorization header
// of the request itself.
//
//	go run ./nethttp -region us-east-1 -model us.amazon.nova-lite-v1:0
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"time"

	"github.com/bedrocktoken/bedrocktoken"
)

func main() {
	region := flag.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	model := flag.String("model", "us.amazon.nova-lite-v1:0", "`ID` of a model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "base `URL` to use instead of the region's endpoint")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	base := cmp.Or(*endpoint, "https://bedrock-runtime."+provider.Region()+".amazonaws.com")
	answer, err := converse(ctx, http.DefaultClient, provider, base, *model)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
}

func converse(ctx context.Context, client *http.Client, provider *bedrocktoken.Provider, endpoint, model string) (string, error) {
	type content struct {
		Text string `json:"text"`
	}
	type message struct {
		Role    string    `json:"role"`
		Content []content `json:"content"`
	}
	input := map[string][]message{
		"messages": {{Role: "user", Content: []content{{Text: "Say hello in one sentence."}}}},
	}
	body, err := json.Marshal(input)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		endpoint+"/model/"+url.PathEscape(model)+"/converse", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")

	// Get a token for each request. Signing is local, and a token that is kept
	// expires with the credentials that signed it.
	token, err := provider.Token(ctx)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)

	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return "", fmt.Errorf("%s: %s", response.Status, reason)
	}
	var output struct {
		Output struct {
			Message message `json:"message"`
		} `json:"output"`
	}
	if err := json.NewDecoder(response.Body).Decode(&output); err != nil {
		return "", err
	}
	if len(output.Output.Message.Content) == 0 {
		return "", fmt.Errorf("%s answered nothing", model)
	}
	return output.Output.Message.Content[0].Text, nil
}
