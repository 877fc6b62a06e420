// BertViz's scripts ask RequireJS for jQuery and D3 and name a CDN. Both stand in this page already, before this script.
(() => {
  const params = JSON.parse(document.getElementById('bertviz-params').textContent);
  const loaded = { jquery: window.jQuery, d3: window.d3 };
  window.bertviz_params = params;
  window.require = { config() {} };
  window.requirejs = (names, draw) => {
    draw(...names.map(name => loaded[name]));
    // The neuron view numbers layers by their place in the page, which need not begin with the model's first.
    document.querySelectorAll('#layer option').forEach((option, place) => {
      option.textContent = params.include_layers[place];
    });
  };
})();
