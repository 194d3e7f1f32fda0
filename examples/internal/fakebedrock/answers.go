package fakebedrock

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
)

type object = map[string]any

// An event of a stream, in either of the two formats.
type event struct {
	name string
	data any
}

func answers() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /model/{id}/converse", converse)
	mux.HandleFunc("POST /model/{id}/converse-stream", converseStream)
	mux.HandleFunc("POST /model/{id}/invoke", invoke)
	mux.HandleFunc("POST /model/{id}/invoke-with-response-stream", invokeStream)
	mux.HandleFunc("POST /anthropic/v1/messages", messages)
	for _, prefix := range []string{"/v1", "/openai/v1"} {
		mux.HandleFunc("POST "+prefix+"/chat/completions", chatCompletions)
		mux.HandleFunc("POST "+prefix+"/responses", responses)
		mux.HandleFunc("GET "+prefix+"/models", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, object{"object": "list", "data": []object{{"id": "openai.gpt-oss-20b", "object": "model"}}})
		})
	}
	mux.HandleFunc("GET /foundation-models", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, object{"modelSummaries": []object{{"modelId": "amazon.nova-lite-v1:0"}}})
	})
	mux.HandleFunc("GET /inference-profiles", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, object{"inferenceProfileSummaries": []object{}})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "UnknownOperationException", r.Method+" "+r.URL.Path)
	})
	return mux
}

func converse(w http.ResponseWriter, r *http.Request) {
	if _, ok := read(w, r, "messages"); !ok {
		return
	}
	writeJSON(w, http.StatusOK, object{
		"output": object{"message": object{
			"role":    "assistant",
			"content": []object{{"text": Answer}},
		}},
		"stopReason": "end_turn",
		"usage":      object{"inputTokens": 1, "outputTokens": 3, "totalTokens": 4},
		"metrics":    object{"latencyMs": 1},
	})
}

func converseStream(w http.ResponseWriter, r *http.Request) {
	if _, ok := read(w, r, "messages"); !ok {
		return
	}
	events := []event{{"messageStart", object{"role": "assistant"}}}
	for _, part := range parts() {
		events = append(events, event{"contentBlockDelta", object{"contentBlockIndex": 0, "delta": object{"text": part}}})
	}
	events = append(events,
		event{"contentBlockStop", object{"contentBlockIndex": 0}},
		event{"messageStop", object{"stopReason": "end_turn"}},
		event{"metadata", object{
			"usage":   object{"inputTokens": 1, "outputTokens": 3, "totalTokens": 4},
			"metrics": object{"latencyMs": 1},
		}},
	)
	writeEventStream(w, events)
}

// invoke and invokeStream take and give what Anthropic's models do.
func invoke(w http.ResponseWriter, r *http.Request) {
	if _, ok := read(w, r, "messages"); ok {
		writeJSON(w, http.StatusOK, message(r.PathValue("id")))
	}
}

func invokeStream(w http.ResponseWriter, r *http.Request) {
	if _, ok := read(w, r, "messages"); !ok {
		return
	}
	var chunks []event
	for _, e := range messageEvents(r.PathValue("id")) {
		chunks = append(chunks, event{"chunk", object{"bytes": encode(e.data)}}) // base64 by encoding/json
	}
	writeEventStream(w, chunks)
}

func messages(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r, "model", "messages")
	switch {
	case !ok:
	case body["stream"] == true:
		writeSSE(w, messageEvents(body["model"]))
	default:
		writeJSON(w, http.StatusOK, message(body["model"]))
	}
}

func message(model any) object {
	return object{
		"id": "msg_1", "type": "message", "role": "assistant", "model": model,
		"content":     []object{{"type": "text", "text": Answer}},
		"stop_reason": "end_turn",
		"usage":       object{"input_tokens": 1, "output_tokens": 3},
	}
}

func messageEvents(model any) []event {
	start := message(model)
	start["content"], start["stop_reason"] = []object{}, nil
	events := []event{
		{"message_start", object{"message": start}},
		{"content_block_start", object{"index": 0, "content_block": object{"type": "text", "text": ""}}},
	}
	for _, part := range parts() {
		events = append(events, event{"content_block_delta", object{"index": 0, "delta": object{"type": "text_delta", "text": part}}})
	}
	events = append(events,
		event{"content_block_stop", object{"index": 0}},
		event{"message_delta", object{"delta": object{"stop_reason": "end_turn"}, "usage": object{"output_tokens": 3}}},
		event{"message_stop", object{}},
	)
	return typed(events)
}

func chatCompletions(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r, "model", "messages")
	if !ok {
		return
	}
	if body["stream"] != true {
		completion := object{
			"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
			"choices": []object{{
				"index": 0, "finish_reason": "stop",
				"message": object{"role": "assistant", "content": Answer},
			}},
		}
		writeJSON(w, http.StatusOK, completion)
		return
	}
	chunk := func(delta object, finish any) event {
		return event{data: object{
			"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"],
			"choices": []object{{"index": 0, "delta": delta, "finish_reason": finish}},
		}}
	}
	events := []event{chunk(object{"role": "assistant"}, nil)}
	for _, part := range parts() {
		events = append(events, chunk(object{"content": part}, nil))
	}
	events = append(events, chunk(object{}, "stop"))
	writeSSE(w, events)
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func responses(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r, "model", "input")
	if !ok {
		return
	}
	item := func(status string, content ...object) object {
		return object{
			"id": "msg_1", "type": "message", "role": "assistant", "status": status,
			"content": append([]object{}, content...), // never null
		}
	}
	response := func(status string, output ...object) object {
		return object{
			"id": "resp_1", "object": "response", "created_at": 1, "model": body["model"],
			"status": status, "output": append([]object{}, output...),
		}
	}
	answer := item("completed", object{"type": "output_text", "text": Answer, "annotations": []object{}})
	completed := response("completed", answer)
	completed["usage"] = object{"input_tokens": 1, "output_tokens": 3, "total_tokens": 4}
	if body["stream"] != true {
		writeJSON(w, http.StatusOK, completed)
		return
	}
	events := []event{
		{"response.created", object{"response": response("in_progress")}},
		{"response.output_item.added", object{"output_index": 0, "item": item("in_progress")}},
	}
	for _, part := range parts() {
		events = append(events, event{"response.output_text.delta", object{
			"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": part,
		}})
	}
	events = append(events,
		event{"response.output_item.done", object{"output_index": 0, "item": answer}},
		event{"response.completed", object{"response": completed}},
	)
	for i, e := range typed(events) {
		e.data.(object)["sequence_number"] = i
	}
	writeSSE(w, events)
}

// parts returns the answer as the pieces of a stream.
func parts() []string {
	return strings.SplitAfter(Answer, " ")
}

// typed repeats the name of each event in its data.
func typed(events []event) []event {
	for _, e := range events {
		e.data.(object)["type"] = e.name
	}
	return events
}

// read returns the body of r, which must have the members given. If it does not,
// read has answered.
func read(w http.ResponseWriter, r *http.Request, members ...string) (object, bool) {
	var body object
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		fail(w, http.StatusBadRequest, "ValidationException", err.Error())
		return nil, false
	}
	for _, member := range members {
		if value := body[member]; value == nil || value == "" {
			fail(w, http.StatusBadRequest, "ValidationException", member+" is missing")
			return nil, false
		}
	}
	return body, true
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(encode(value))
}

// writeSSE writes server-sent events.
func writeSSE(w http.ResponseWriter, events []event) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		if e.name != "" {
			fmt.Fprintf(w, "event: %s\n", e.name)
		}
		fmt.Fprintf(w, "data: %s\n\n", encode(e.data))
	}
}

// writeEventStream writes events in AWS's binary format.
func writeEventStream(w http.ResponseWriter, events []event) {
	w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
	encoder := eventstream.NewEncoder()
	for _, e := range events {
		err := encoder.Encode(w, eventstream.Message{
			Headers: eventstream.Headers{
				{Name: ":message-type", Value: eventstream.StringValue("event")},
				{Name: ":event-type", Value: eventstream.StringValue(e.name)},
				{Name: ":content-type", Value: eventstream.StringValue("application/json")},
			},
			Payload: encode(e.data),
		})
		if err != nil {
			return // the client has gone
		}
	}
}

func encode(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // values are made above
	}
	return data
}
